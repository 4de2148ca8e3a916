// base/bytes.h - little-endian encoding of persistent and wire formats: a writer, and a reader that cannot
// leave its bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace cenote {

class ByteWriter {
 public:
  void u8(uint8_t value) { number(value); }
  void u32(uint32_t value) { number(value); }
  void u64(uint64_t value) { number(value); }
  void i64(int64_t value) { number(static_cast<uint64_t>(value)); }
  void raw(const void* bytes, size_t size) { out_.append(static_cast<const char*>(bytes), size); }
  // u32 length, then the bytes.
  void text(std::string_view value) {
    u32(static_cast<uint32_t>(value.size()));
    out_.append(value);
  }
  size_t size() const { return out_.size(); }
  std::string take() { return std::move(out_); }

 private:
  template <typename T>
  void number(T value) {
    for (size_t i = 0; i < sizeof value; ++i) out_.push_back(static_cast<char>(value >> (8 * i)));
  }
  std::string out_;
};

// After the first read beyond the end every read gives zeros and ok() is false: check once, after a group of
// reads, and before using a length for an allocation.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}
  uint8_t u8() { return number<uint8_t>(); }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  int64_t i64() { return static_cast<int64_t>(number<uint64_t>()); }
  void raw(void* target, size_t size) {
    const std::string_view bytes = take(size);
    if (ok_)
      std::memcpy(target, bytes.data(), size);
    else
      std::memset(target, 0, size);
  }
  // A text of at most `max` bytes; a longer one is a failed read.
  std::string_view text(size_t max) {
    const uint32_t size = u32();
    if (size > max) ok_ = false;
    return take(size);
  }
  // For the caller who found a value out of bounds.
  void fail() { ok_ = false; }
  bool ok() const { return ok_; }
  size_t left() const { return ok_ ? rest_.size() : 0; }
  bool done() const { return ok_ && rest_.empty(); }

 private:
  std::string_view take(size_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  template <typename T>
  T number() {
    const std::string_view bytes = take(sizeof(T));
    T value = 0;
    for (size_t i = 0; i < bytes.size(); ++i)
      value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes[i])) << (8 * i));
    return value;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace cenote
