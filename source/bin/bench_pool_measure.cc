#include "bin/bench_pool_measure.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/hash.h"
#include "base/status.h"
#include "base/units.h"
#include "fabric/libfabric/bare_read.h"

namespace cenote {
namespace {

constexpr Duration kReadDeadline = Duration::from_seconds(30);
constexpr std::array<uint64_t, 5> kReadBytes = {64 * kKiB, 256 * kKiB, kMiB, 4 * kMiB, 16 * kMiB};

double median(std::vector<double> values) {
  CENOTE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double own_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

class Bench {
 public:
  explicit Bench(const BenchPoolOptions& options) : options_(options) {}
  absl::Status start();
  absl::StatusOr<BenchPoint> measure(uint64_t read_bytes);
  double memcpy_gb_per_s();
  absl::StatusOr<double> stream_gb_per_s();
  std::string provider() const { return transport_->provider(); }

 private:
  absl::Status pass(uint64_t read_bytes, bool verify);
  absl::Status check(uint64_t offset, uint64_t bytes) const;
  // Seconds of one call.
  template <typename Call>
  absl::StatusOr<double> timed(Call call) {
    const Instant start = monotonic_now();
    CENOTE_RETURN_IF_ERROR(call());
    return (monotonic_now() - start).seconds();
  }
  double gb() const { return static_cast<double>(options_.arena_bytes) * 1e-9; }

  BenchPoolOptions options_;
  std::unique_ptr<BenchTarget> target_;
  std::vector<std::byte> local_;
  std::vector<uint64_t> sums_;   // XXH3-64 of each kSumBytes of the arena.
  std::unique_ptr<fabric::Transport> transport_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  std::unique_ptr<fabric::Endpoint> endpoint_;
  std::unique_ptr<fabric::BareReader> bare_;
};

// Reads below a chunk are checked by pieces of their own size.
constexpr uint64_t kSumBytes = 64 * kKiB;

absl::Status Bench::start() {
  CENOTE_ASSIGN_OR_RETURN(transport_, fabric::open_transport(options_.transport));
  options_.transport.provider = transport_->provider();
  CENOTE_ASSIGN_OR_RETURN(target_, BenchTarget::start(options_.transport, options_.arena_bytes));
  local_ = bench_arena(options_.arena_bytes);
  for (uint64_t offset = 0; offset < local_.size(); offset += kSumBytes) {
    sums_.push_back(xxh3_64(std::span(local_).subspan(offset, kSumBytes)));
    // And those of whole chunks, behind the small one they begin with.
    const bool chunk = offset % kChunkBytes == 0;
    sums_.push_back(chunk ? xxh3_64(std::span(local_).subspan(offset, kChunkBytes)) : 0);
  }
  std::fill(local_.begin(), local_.end(), std::byte{0});
  CENOTE_ASSIGN_OR_RETURN(region_, transport_->register_memory(local_, fabric::Access::kLocal));
  CENOTE_ASSIGN_OR_RETURN(endpoint_, transport_->connect(target_->address()));
  CENOTE_ASSIGN_OR_RETURN(bare_, fabric::BareReader::open(options_.transport, target_->address(), local_));
  return absl::OkStatus();
}

absl::Status Bench::check(uint64_t offset, uint64_t bytes) const {
  const uint64_t piece = std::min(bytes, kChunkBytes);
  for (uint64_t at = offset; at < offset + bytes; at += piece) {
    const uint64_t expected = sums_[at / kSumBytes * 2 + (piece == kChunkBytes ? 1 : 0)];
    if (xxh3_64(std::span(local_).subspan(at, piece)) != expected) {
      return absl::DataLossError(absl::StrCat("the ", format_bytes(piece), " at offset ", at, " did not arrive as they were sent"));
    }
  }
  return absl::OkStatus();
}

absl::Status Bench::pass(uint64_t read_bytes, bool verify) {
  uint64_t posted = 0;
  uint64_t arrived = 0;
  std::array<fabric::Completion, 16> completions;
  while (arrived < local_.size()) {
    while (posted < local_.size() && endpoint_->in_flight() < options_.depth) {
      CENOTE_RETURN_IF_ERROR(endpoint_->read({target_->key(), posted, read_bytes}, {region_.get(), posted, read_bytes}, posted,
                                             monotonic_now() + kReadDeadline));
      posted += read_bytes;
    }
    const size_t count = transport_->poll(completions);
    for (size_t i = 0; i < count; ++i) {
      if (completions[i].code != absl::StatusCode::kOk) {
        return absl::Status(completions[i].code, absl::StrCat("reading ", format_bytes(read_bytes), " at offset ", completions[i].tag));
      }
      arrived += read_bytes;
      if (verify) CENOTE_RETURN_IF_ERROR(check(completions[i].tag, read_bytes));
    }
    if (count == 0) transport_->wait(kReadDeadline);
  }
  return absl::OkStatus();
}

absl::StatusOr<BenchPoint> Bench::measure(uint64_t read_bytes) {
  const auto bare = [&] { return bare_->read_all(target_->key(), read_bytes, options_.depth); };
  const auto plain = [&] { return pass(read_bytes, false); };
  const auto verified = [&] { return pass(read_bytes, true); };
  // Once unmeasured: connections and page tables. The bytes that bare reads must be right too.
  CENOTE_RETURN_IF_ERROR(plain());
  std::fill(local_.begin(), local_.end(), std::byte{0});
  CENOTE_RETURN_IF_ERROR(bare());
  CENOTE_RETURN_IF_ERROR(check(0, local_.size() / kChunkBytes * kChunkBytes));
  std::vector<double> bare_s, plain_s, verified_s, ratios, cpu_s;
  const auto measured_plain = [&]() -> absl::Status {
    const double cpu_before = own_cpu_seconds() + target_->cpu_time().seconds();
    CENOTE_ASSIGN_OR_RETURN(const double seconds, timed(plain));
    cpu_s.push_back(own_cpu_seconds() + target_->cpu_time().seconds() - cpu_before);
    plain_s.push_back(seconds);
    return absl::OkStatus();
  };
  for (int i = 0; i < options_.pairs; ++i) {
    // Who goes first alternates, so that a drift of the machine favours neither.
    if (i % 2 == 1) CENOTE_RETURN_IF_ERROR(measured_plain());
    CENOTE_ASSIGN_OR_RETURN(const double bare_seconds, timed(bare));
    bare_s.push_back(bare_seconds);
    if (i % 2 == 0) CENOTE_RETURN_IF_ERROR(measured_plain());
    ratios.push_back(bare_s.back() / plain_s.back());
    CENOTE_ASSIGN_OR_RETURN(const double verified_seconds, timed(verified));
    verified_s.push_back(verified_seconds);
  }
  return BenchPoint{.bytes = read_bytes,
                    .gb_per_s = gb() / median(plain_s),
                    .verified_gb_per_s = gb() / median(verified_s),
                    .bare_gb_per_s = gb() / median(bare_s),
                    .ratio = median(ratios),
                    .cpu_s_per_gb = median(cpu_s) / gb()};
}

double Bench::memcpy_gb_per_s() {
  const std::vector<std::byte> source = bench_arena(options_.arena_bytes);
  std::vector<double> seconds;
  for (int i = 0; i <= options_.pairs; ++i) {
    const Instant start = monotonic_now();
    std::memcpy(local_.data(), source.data(), source.size());
    if (i > 0) seconds.push_back((monotonic_now() - start).seconds());
  }
  return gb() / median(seconds);
}

absl::StatusOr<double> Bench::stream_gb_per_s() {
  CENOTE_ASSIGN_OR_RETURN(const int stream, target_->connect_stream());
  std::vector<double> seconds;
  for (int i = 0; i <= options_.pairs; ++i) {
    const Instant start = monotonic_now();
    uint64_t arrived = send(stream, "g", 1, MSG_NOSIGNAL) == 1 ? 0 : local_.size() + 1;
    while (arrived < local_.size()) {
      const ssize_t n = recv(stream, local_.data() + arrived, std::min<uint64_t>(kMiB, local_.size() - arrived), MSG_WAITALL);
      if (n <= 0) arrived = local_.size() + 1;
      if (n > 0) arrived += static_cast<uint64_t>(n);
    }
    if (arrived > local_.size()) {
      close(stream);
      return absl::UnavailableError("the plain TCP stream of the bench target broke");
    }
    if (i > 0) seconds.push_back((monotonic_now() - start).seconds());
  }
  close(stream);
  return gb() / median(seconds);
}

}  // namespace

absl::StatusOr<BenchPoolResult> measure_pool(const BenchPoolOptions& options) {
  if (options.arena_bytes == 0 || options.arena_bytes % kReadBytes.back() != 0) {
    return absl::InvalidArgumentError(absl::StrCat("an arena of ", options.arena_bytes, " bytes; it must be a multiple of ",
                                                   format_bytes(kReadBytes.back()), ", the largest read"));
  }
  Bench bench(options);
  CENOTE_RETURN_IF_ERROR(bench.start());
  BenchPoolResult result{.provider = bench.provider()};
  for (const uint64_t read_bytes : kReadBytes) {
    CENOTE_ASSIGN_OR_RETURN(BenchPoint point, bench.measure(read_bytes));
    result.points.push_back(point);
  }
  result.memcpy_gb_per_s = bench.memcpy_gb_per_s();
  CENOTE_ASSIGN_OR_RETURN(result.tcp_gb_per_s, bench.stream_gb_per_s());
  return result;
}

}  // namespace cenote
