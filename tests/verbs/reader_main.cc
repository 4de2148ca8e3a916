// fabric_reader PROVIDER ADDRESS FILE_A FILE_B BYTES: reads from target A without a pause until A is lost, then goes on with B, and tries A
// again beside it. FILE_x holds the line that fabric_target printed; this waits for the file to come. Every byte is compared.
//
// Says "reading" once reads from A flow, and at the end one line of JSON: how A's reads ended and how long all took. Exit code 0 if each
// operation ended by its deadline and B's bytes were right.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/status.h"
#include "fabric/transport.h"

namespace cenote::fabric {
namespace {

constexpr size_t kDepth = 8;
constexpr uint64_t kReadBytes = 32 << 10;
constexpr Duration kDeadline = Duration::from_seconds(3);
constexpr Duration kPatience = Duration::from_seconds(120);  // With a host that stays alive: the test has failed.
constexpr size_t kReadsOfReplica = 64;
constexpr size_t kTriesAgain = 3;
constexpr Duration kStall = Duration::from_ms(1500);  // The provider alone stands still for 2 s at each try.

struct Target {
  Address address;
  RegionKey key;
};

Target await_target(const char* provider, const char* file) {
  for (const Instant until = monotonic_now() + kPatience; monotonic_now() < until;) {
    std::ifstream in(file);
    std::string hex;
    Target target;
    if (in >> hex >> std::hex >> target.key.key >> target.key.base) {
      target.address = {.provider = provider, .bytes = absl::HexStringToBytes(hex)};
      return target;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::fprintf(stderr, "no target in %s\n", file);
  std::exit(1);
}

std::byte expected(uint64_t i) { return static_cast<std::byte>(((i + 1) * 0x9e3779b97f4a7c15ull) >> 56); }

// Reads of one target, kDepth in flight, each compared when it has come.
class Stream {
 public:
  Stream(Transport& transport, std::span<std::byte> bytes, MemoryRegion& region, uint64_t first_slot, uint64_t target_bytes)
      : transport_(transport), bytes_(bytes), region_(region), first_slot_(first_slot), target_bytes_(target_bytes) {}

  void connect(const Target& target) {
    key_ = target.key;
    auto made = transport_.connect(target.address);
    CENOTE_CHECK(made.ok());
    endpoint_ = *std::move(made);
  }
  void close() { endpoint_.reset(); }
  bool broken() const { return endpoint_->broken(); }
  size_t in_flight() const { return posted_.size(); }

  void fill() {
    while (posted_.size() < kDepth && !endpoint_->broken()) {
      const uint64_t slot = next_ % kDepth;
      const uint64_t offset = next_ * kReadBytes % target_bytes_;
      const Tag tag = first_slot_ + slot;
      if (posted_.contains(tag)) return;
      const absl::Status posted = endpoint_->read({key_, offset, kReadBytes}, {&region_, tag * kReadBytes, kReadBytes}, tag,
                                                  monotonic_now() + kDeadline);
      if (!posted.ok()) return;
      posted_[tag] = {offset, monotonic_now()};
      ++next_;
    }
  }
  bool mine(Tag tag) const { return tag >= first_slot_ && tag < first_slot_ + kDepth; }
  void take(const Completion& completion) {
    const auto [offset, at] = posted_.at(completion.tag);
    posted_.erase(completion.tag);
    longest_ = std::max(longest_, monotonic_now() - at);
    ++ended_[completion.code];
    if (completion.code != absl::StatusCode::kOk) return;
    for (uint64_t i = 0; i < kReadBytes; ++i) wrong_ += bytes_[completion.tag * kReadBytes + i] != expected(offset + i);
  }
  size_t ended(absl::StatusCode code) const { return ended_.contains(code) ? ended_.at(code) : 0; }
  size_t failed() const { return ended(absl::StatusCode::kUnavailable) + ended(absl::StatusCode::kDeadlineExceeded); }
  uint64_t wrong() const { return wrong_; }
  Duration longest() const { return longest_; }

 private:
  struct Posted {
    uint64_t offset = 0;
    Instant at;
  };
  Transport& transport_;
  std::span<std::byte> bytes_;
  MemoryRegion& region_;
  const uint64_t first_slot_;
  const uint64_t target_bytes_;
  RegionKey key_;
  std::unique_ptr<Endpoint> endpoint_;
  std::map<Tag, Posted> posted_;
  std::map<absl::StatusCode, size_t> ended_;
  uint64_t next_ = 0;
  uint64_t wrong_ = 0;
  Duration longest_;
};

void turn(Transport& transport, Stream& a, Stream& b) {
  std::array<Completion, 2 * kDepth> done;
  const size_t count = transport.poll(done);
  for (const Completion& completion : std::span(done).first(count)) (a.mine(completion.tag) ? a : b).take(completion);
  if (count == 0) transport.wait(Duration::from_ms(100));
}

int run(const char* provider, const char* address, const char* file_a, const char* file_b, uint64_t target_bytes) {
  auto transport = open_transport({.provider = provider, .bind_address = address});
  if (!transport.ok()) {
    std::fprintf(stderr, "%s\n", std::string(transport.status().message()).c_str());
    return 1;
  }
  std::vector<std::byte> bytes(2 * kDepth * kReadBytes);
  auto region = (*transport)->register_memory(bytes, Access::kLocal);
  CENOTE_CHECK(region.ok());
  const Target target_a = await_target(provider, file_a);
  const Target target_b = await_target(provider, file_b);
  Stream a(**transport, bytes, **region, 0, target_bytes);
  Stream b(**transport, bytes, **region, kDepth, target_bytes);

  a.connect(target_a);
  bool said = false;
  for (const Instant until = monotonic_now() + kPatience; !(said && a.broken()) && monotonic_now() < until;) {
    a.fill();
    turn(**transport, a, b);
    if (!said && a.broken() && a.in_flight() == 0) {  // A busy machine let soft RoCE run out of retries: not the death that is meant.
      a.close();
      a.connect(target_a);
    }
    if (!said && a.ended(absl::StatusCode::kOk) >= 4 * kDepth) {
      std::printf("reading\n");
      std::fflush(stdout);
      said = true;
    }
  }
  const bool lost = a.broken();
  while (a.in_flight() != 0) turn(**transport, a, b);  // Each has a deadline, and a broken endpoint has failed all.
  const size_t failed = a.failed();  // Of the lost one; at most kDepth more from before.
  const Duration longest_read = a.longest();
  Instant begin = monotonic_now();
  a.close();
  const Duration closing = monotonic_now() - begin;

  // From the replica, while A is asked again and again: somebody will, as long as nobody has told that it is dead.
  begin = monotonic_now();
  b.connect(target_b);
  size_t stalls = 0;
  size_t tries = 0;
  while ((b.ended(absl::StatusCode::kOk) < kReadsOfReplica || tries < kTriesAgain || a.in_flight() != 0) && b.failed() == 0 &&
         monotonic_now() < begin + kPatience) {
    const Instant turn_begin = monotonic_now();
    b.fill();
    if (b.ended(absl::StatusCode::kOk) >= kDepth && a.in_flight() == 0 && tries < kTriesAgain) {
      ++tries;
      a.close();
      a.connect(target_a);
      a.fill();
    }
    turn(**transport, a, b);
    stalls += monotonic_now() - turn_begin > kStall;
  }
  const Duration replica = monotonic_now() - begin;
  const bool fine = lost && failed > 0 && a.wrong() == 0 && b.wrong() == 0 && b.ended(absl::StatusCode::kOk) >= kReadsOfReplica && b.failed() == 0 && tries == kTriesAgain;
  std::printf(R"({"fine": %s, "reads": %zu, "failed": %zu, "deadlines": %zu, "wrong_bytes": %lu, "longest_read_ms": %.0f, "close_ms": %.0f, )"
              R"("replica_ms": %.0f, "replica_longest_read_ms": %.0f, "stalls": %zu, "tries": %zu})" "\n",
              fine ? "true" : "false", a.ended(absl::StatusCode::kOk), failed, a.ended(absl::StatusCode::kDeadlineExceeded), a.wrong() + b.wrong(),
              longest_read.ms(), closing.ms(), replica.ms(), b.longest().ms(), stalls, tries);
  a.close();
  b.close();
  region->reset();
  return fine ? 0 : 1;
}

}  // namespace
}  // namespace cenote::fabric

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  return cenote::fabric::run(argv[1], argv[2], argv[3], argv[4], std::strtoull(argv[5], nullptr, 10));
}
