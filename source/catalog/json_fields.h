// catalog/json_fields.h - reading JSON that nobody vouches for, without exceptions: typed fields of an
// object. Private to this room.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/text.h"

namespace cenote {

// Text within `size_max` bytes and `depth_max` levels, as a tree. kInvalidArgument otherwise.
absl::StatusOr<nlohmann::json> parse_json(std::string_view text, size_t size_max, int depth_max,
                                          std::string_view what);

// The fields of one object. The first that is missing or of another type makes ok() false and names itself in
// status().
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string_view what);
  std::string text(const char* key);
  uint64_t number(const char* key);
  bool boolean(const char* key);
  std::vector<int64_t> integers(const char* key);
  const nlohmann::json& list(const char* key);
  const nlohmann::json& object(const char* key);
  // Also fails if the object has fields that were not asked for.
  absl::Status finish() const;
  bool ok() const { return status_.ok(); }

 private:
  const nlohmann::json* find(const char* key, const char* type, bool (nlohmann::json::*is)() const noexcept);
  void fail(const char* key, std::string_view why);
  const nlohmann::json& object_;
  std::string what_;
  size_t asked_ = 0;
  absl::Status status_;
};

}  // namespace cenote
