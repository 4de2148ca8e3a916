// Goal: no operator reads a weight before the gate has let it pass, and what the gate reports ends the run. Method: the memory is
// poisoned, and only what a run waited for is put in place, by the same thread or, late, by another.
#include <atomic>
#include <condition_variable>
#include <set>
#include <mutex>
#include <thread>

#include "ATen/Parallel.h"
#include "exported_model.h"

namespace cenote::execute {
namespace {

// Brings exactly what is waited for.
class OnDemandGate : public WeightGate {
 public:
  explicit OnDemandGate(ExportedModel& exported) : exported_(exported) {}
  bool complete() const override { return claim_complete; }
  absl::Status wait(ByteRange range, Instant) override {
    ranges.push_back(range);
    if (!fail.ok() && ranges.size() >= fail_at) return fail;
    exported_.arrive(range);
    return absl::OkStatus();
  }
  absl::Status wait_rows(ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant) override {
    for (int64_t row : rows) {
      const uint64_t begin = table.begin + static_cast<uint64_t>(row) * row_bytes;
      EXPECT_LE(begin + row_bytes, table.end);
      exported_.arrive({begin, begin + row_bytes});
      rows_seen.push_back(row);
    }
    return absl::OkStatus();
  }
  bool transferring() const override { return true; }

  bool claim_complete = false;
  absl::Status fail;
  size_t fail_at = 1;
  std::vector<ByteRange> ranges;
  std::vector<int64_t> rows_seen;

 private:
  ExportedModel& exported_;
};

class Gated : public ::testing::TestWithParam<std::string> {};

TEST_P(Gated, reads_nothing_that_it_did_not_wait_for) {
  ExportedModel exported(GetParam(), /*poison=*/true);
  ASSERT_TRUE(exported.load().ok());
  OnDemandGate gate(exported);
  auto outputs = exported.model().run(exported.inputs(5), {.gate = &gate}, nullptr);
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  EXPECT_TRUE(same(*outputs, exported.outputs(5)));
  EXPECT_FALSE(gate.ranges.empty());
}

TEST_P(Gated, gives_another_answer_when_a_gate_lies) {
  ExportedModel exported(GetParam(), /*poison=*/true);
  ASSERT_TRUE(exported.load().ok());
  OnDemandGate gate(exported);
  gate.claim_complete = true;
  auto outputs = exported.model().run(exported.inputs(5), {.gate = &gate}, nullptr);
  EXPECT_FALSE(outputs.ok() && same(*outputs, exported.outputs(5))) << "the weights were never there";
}

INSTANTIATE_TEST_SUITE_P(Graphs, Gated, ::testing::Values("ConvNet", "TiedLanguageModel", "Counter", "Dtypes", "Rotary", "Lstm"),
                         [](const auto& info) { return info.param; });

TEST(Gate, is_asked_for_rows_of_a_lookup_table_before_all_of_it) {
  ExportedModel exported("TiedLanguageModel", /*poison=*/true);
  ASSERT_TRUE(exported.load().ok());
  OnDemandGate gate(exported);
  size_t ranges_at_lookup = 99;
  // Node 0 is the lookup, node 1 the head that is tied to the table.
  const auto watch = [&](size_t node) {
    if (node == 1) ranges_at_lookup = gate.ranges.size();
  };
  ASSERT_TRUE(exported.model().run(exported.inputs(1), {.gate = &gate, .on_node = watch}, nullptr).ok());
  EXPECT_EQ(ranges_at_lookup, 0u) << "the lookup waited for the table";
  EXPECT_EQ(gate.ranges.size(), 1u);
  const Tensor ids = exported.inputs(1).front();
  std::set<int64_t> distinct;
  for (size_t i = 0; i < ids.bytes.size() / 8; ++i) distinct.insert(reinterpret_cast<const int64_t*>(ids.bytes.data())[i]);
  EXPECT_EQ(gate.rows_seen, std::vector<int64_t>(distinct.begin(), distinct.end()));
}

TEST(Gate, is_not_asked_twice_for_the_same_weights) {
  ExportedModel exported("ConvNet", /*poison=*/true);
  ASSERT_TRUE(exported.load().ok());
  OnDemandGate gate(exported);
  ASSERT_TRUE(exported.model().run(exported.inputs(1), {.gate = &gate}, nullptr).ok());
  std::set<std::pair<uint64_t, uint64_t>> distinct;
  for (ByteRange range : gate.ranges) EXPECT_TRUE(distinct.insert({range.begin, range.end}).second);
}

TEST(Gate, ends_the_run_with_its_own_error_and_the_next_run_is_unharmed) {
  ExportedModel exported("ConvNet");
  ASSERT_TRUE(exported.load().ok());
  OnDemandGate gate(exported);
  gate.fail = absl::DataLossError("block 3 is gone");
  gate.fail_at = 3;
  const auto outputs = exported.model().run(exported.inputs(1), {.gate = &gate}, nullptr);
  EXPECT_EQ(outputs.status(), gate.fail);
  auto again = exported.model().run(exported.inputs(1), {}, nullptr);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(same(*again, exported.outputs(1)));
}

// Opened in order by another thread, as a loader does.
class PrefixGate : public WeightGate {
 public:
  bool complete() const override { return end_.load(std::memory_order_acquire) == kAll; }
  absl::Status wait(ByteRange range, Instant deadline) override {
    std::unique_lock lock(mutex_);
    asked_ = true;
    opened_.notify_all();
    const bool open = opened_.wait_for(lock, std::chrono::nanoseconds((deadline - monotonic_now()).ns),
                                       [&] { return end_.load() >= range.end; });
    return open ? absl::OkStatus() : absl::DeadlineExceededError("weights are late");
  }
  absl::Status wait_rows(ByteRange table, uint64_t, std::span<const int64_t>, Instant deadline) override {
    return wait(table, deadline);
  }
  bool transferring() const override { return !complete(); }
  void open(uint64_t end) {
    {
      std::lock_guard lock(mutex_);
      end_.store(end, std::memory_order_release);
    }
    opened_.notify_all();
  }
  // Until somebody needs weights, so that he has to wait for them however busy the machine is.
  void await_need() {
    std::unique_lock lock(mutex_);
    opened_.wait_for(lock, std::chrono::seconds(60), [&] { return asked_; });
  }
  static constexpr uint64_t kAll = ~uint64_t{0};

 private:
  std::atomic<uint64_t> end_{0};
  bool asked_ = false;
  std::mutex mutex_;
  std::condition_variable opened_;
};

TEST(Gate, lets_compute_run_while_another_thread_brings_the_weights) {
  for (const char* name : {"ConvNet", "TiedLanguageModel"}) {
    ExportedModel exported(name, /*poison=*/true);
    ASSERT_TRUE(exported.load().ok());
    PrefixGate gate;
    std::thread loader([&] {
      constexpr uint64_t kStep = 512;
      gate.await_need();
      for (uint64_t end = 0; end < exported.weights().size(); end += kStep) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        exported.arrive({end, std::min(end + kStep, exported.weights().size())});
        gate.open(end + kStep);
      }
      gate.open(PrefixGate::kAll);
    });
    RunStats stats;
    auto outputs = exported.model().run(exported.inputs(5), {.deadline = monotonic_now() + Duration::from_seconds(60), .gate = &gate}, &stats);
    loader.join();
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    EXPECT_TRUE(same(*outputs, exported.outputs(5)));
    EXPECT_GT(stats.wait.ns, 0);
  }
}

TEST(Gate, leaves_transfers_a_core_until_they_are_done) {
  ExportedModel exported("ConvNet");
  ASSERT_TRUE(exported.load().ok());
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int beside = std::min(ExportedModel::kThreads, std::max(1, cores - 1));
  PrefixGate gate;
  gate.open(exported.weights().size());
  std::vector<int> threads;
  const auto watch = [&](size_t node) {
    threads.push_back(at::get_num_threads());
    if (node == 2) gate.open(PrefixGate::kAll);
  };
  ASSERT_TRUE(exported.model().run(exported.inputs(1), {.gate = &gate, .on_node = watch}, nullptr).ok());
  EXPECT_EQ(threads[1], beside);
  EXPECT_EQ(threads.back(), ExportedModel::kThreads);
}

TEST(Gate, gives_up_at_the_deadline) {
  ExportedModel exported("ConvNet", /*poison=*/true);
  ASSERT_TRUE(exported.load().ok());
  PrefixGate gate;
  const auto outputs =
      exported.model().run(exported.inputs(1), {.deadline = monotonic_now() + Duration::from_ms(20), .gate = &gate}, nullptr);
  EXPECT_EQ(outputs.status().code(), absl::StatusCode::kDeadlineExceeded) << outputs.status();
}

}  // namespace
}  // namespace cenote::execute
