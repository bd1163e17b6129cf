// A bounded cache: of what has not been used for longest, nothing is kept.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <utility>

namespace jaxdl {

// Not safe for threads by itself. A value that is dropped lives on where it is still held.
template <typename Key, typename Value>
class LruCache {
 public:
  explicit LruCache(size_t capacity) : capacity_(capacity) {}

  std::shared_ptr<Value> Find(const Key& key) {
    auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }

  void Insert(const Key& key, std::shared_ptr<Value> value) {
    order_.emplace_front(key, std::move(value));
    places_[key] = order_.begin();
    if (order_.size() > capacity_) {
      places_.erase(order_.back().first);
      order_.pop_back();
    }
  }

 private:
  using Entry = std::pair<Key, std::shared_ptr<Value>>;
  size_t capacity_;
  std::list<Entry> order_;
  std::map<Key, typename std::list<Entry>::iterator> places_;
};

}  // namespace jaxdl
