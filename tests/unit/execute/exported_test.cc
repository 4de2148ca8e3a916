// Goal: a graph that was exported gives PyTorch's outputs, whatever its inputs, outputs, dtypes and batch, run after run. Method: the
// models of tests/data/graphs, which carry PyTorch's outputs.
#include <sys/mman.h>

#include <filesystem>
#include <set>

#include "exported_model.h"

namespace cenote::execute {
namespace {

std::vector<int> batches(const std::string& name) {
  std::vector<int> found;
  for (int batch = 1; batch <= 5; ++batch) {
    if (std::filesystem::exists(test_data("graphs/" + name) + "/inputs" + std::to_string(batch) + ".json")) {
      found.push_back(batch);
    }
  }
  return found;
}

std::vector<std::string> models() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test_data("graphs"))) {
    if (std::filesystem::exists(entry.path() / "model.json")) names.insert(entry.path().filename());
  }
  return {names.begin(), names.end()};
}

class ExportedModels : public ::testing::TestWithParam<std::string> {};

TEST_P(ExportedModels, gives_pytorchs_outputs_at_every_batch_twice) {
  ExportedModel exported(GetParam());
  ASSERT_TRUE(exported.load().ok());
  ASSERT_FALSE(batches(GetParam()).empty());
  for (int round = 0; round < 2; ++round) {
    for (int batch : batches(GetParam())) {
      const std::vector<Tensor> inputs = exported.inputs(batch), before = inputs;
      auto outputs = exported.model().run(inputs, {}, nullptr);
      ASSERT_TRUE(outputs.ok()) << outputs.status();
      EXPECT_TRUE(same(*outputs, exported.outputs(batch))) << "batch " << batch;
      for (size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(inputs[i].bytes, before[i].bytes) << "the caller's input changed";
    }
  }
  EXPECT_EQ(std::memcmp(exported.weights().data(), exported.true_weights().data(), exported.weights().size()), 0)
      << "weights were written";
}

// Weights are mapped read-only in service: a write ends the process.
TEST_P(ExportedModels, runs_over_read_only_memory) {
  ExportedModel exported(GetParam());
  const size_t length = round_up(std::max<size_t>(exported.weights().size(), 1), kBlockAlignBytes);
  ASSERT_EQ(mprotect(exported.weights().data(), length, PROT_READ), 0);
  ASSERT_TRUE(exported.load().ok());
  EXPECT_TRUE(exported.model().warm_up().ok());
  const int batch = batches(GetParam()).front();
  auto outputs = exported.model().run(exported.inputs(batch), {}, nullptr);
  EXPECT_TRUE(outputs.ok()) << outputs.status();
  ASSERT_EQ(mprotect(exported.weights().data(), length, PROT_READ | PROT_WRITE), 0);
}

INSTANTIATE_TEST_SUITE_P(Graphs, ExportedModels, ::testing::ValuesIn(models()), [](const auto& info) { return info.param; });

TEST(Warm_up, leaves_no_trace_in_buffers_that_the_graph_writes) {
  ExportedModel exported("Counter");
  ASSERT_TRUE(exported.load().ok());
  ASSERT_TRUE(exported.model().warm_up().ok());
  auto outputs = exported.model().run(exported.inputs(1), {}, nullptr);
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  EXPECT_TRUE(same(*outputs, exported.outputs(1)));
}

TEST(Run, reports_compute_time_and_the_ends_of_the_weights_each_node_needs) {
  ExportedModel exported("ConvNet");
  ASSERT_TRUE(exported.load().ok());
  RunStats stats;
  size_t nodes = 0;
  ASSERT_TRUE(exported.model().run(exported.inputs(1), {.on_node = [&](size_t node) { EXPECT_EQ(node, nodes++); }}, &stats).ok());
  EXPECT_GT(stats.compute.ns, 0);
  EXPECT_EQ(stats.wait.ns, 0);
  const std::vector<uint64_t> ends = exported.model().node_weight_ends();
  ASSERT_EQ(ends.size(), nodes);
  EXPECT_TRUE(std::is_sorted(ends.begin(), ends.end()));
  EXPECT_LT(ends.front(), ends.back());
  EXPECT_LE(ends.back(), exported.weights().size());
}

TEST(Run, stops_at_its_deadline) {
  ExportedModel exported("ConvNet");
  ASSERT_TRUE(exported.load().ok());
  const auto outputs = exported.model().run(exported.inputs(1), {.deadline = monotonic_now()}, nullptr);
  EXPECT_EQ(outputs.status().code(), absl::StatusCode::kDeadlineExceeded) << outputs.status();
}

}  // namespace
}  // namespace cenote::execute
