// cenote-graph - runs one model from files, without a cluster: for tests, and for `cenote bench eager`, which interleaves its runs with
// PyTorch's.
//
//   cenote-graph check FOLDER                    validates the graph; prints {"nodes", "operators"}
//   cenote-graph run FOLDER [--threads N]        loads the model, then obeys lines on standard input, one JSON line each in answer:
//       inputs STEM    STEM.json + STEM.bin become the inputs     {}
//       run N          runs N times                               {"ms": [...]}
//       outputs STEM   writes the last run's outputs              {}
//   cenote-graph nodes FOLDER STEM [--threads N] [--rounds N]     per node, medians: [{"name", "target", "ms", "weight_end"}, ...]
//
// A failure is {"error": message, "code": name}; `run` goes on after it. FOLDER and STEM: graph_folder.h. Threads that wait must not
// spin: start it with OMP_WAIT_POLICY=passive in the environment, which the OpenMP library reads before main.
#include <sys/prctl.h>

#include <csignal>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/clock.h"
#include "base/status.h"
#include "base/text.h"
#include "catalog/graph.h"
#include "execute/torch/engine.h"
#include "execute/torch/graph_folder.h"

namespace cenote::execute {
namespace {

using Json = nlohmann::json;
constexpr int kRunsMax = 1'000'000;

Json failure(const absl::Status& status) {
  return {{"error", std::string(status.message())}, {"code", absl::StatusCodeToString(status.code())}};
}

void answer(const Json& json) { std::cout << json.dump() << std::endl; }

// The value after `flag`, or `fallback`.
int number_after(const std::vector<std::string>& arguments, const std::string& flag, int fallback) {
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == flag) return std::atoi(arguments[i + 1].c_str());
  }
  return fallback;
}

// A model over its own copy of the weights.
struct Loaded {
  GraphFolder folder;
  std::unique_ptr<HostRange> weights;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Model> model;
};

absl::StatusOr<Loaded> load(const std::string& path, int threads) {
  Loaded out;
  CENOTE_ASSIGN_OR_RETURN(out.folder, read_graph_folder(path));
  out.weights = std::make_unique<HostRange>(out.folder.weights.size());
  std::memcpy(out.weights->data(), out.folder.weights.data(), out.folder.weights.size());
  out.folder.weights = {};
  CENOTE_ASSIGN_OR_RETURN(out.engine, open_torch_engine({.threads = threads}));
  CENOTE_ASSIGN_OR_RETURN(out.model, out.engine->load(out.folder.manifest, out.weights->span()));
  return out;
}

absl::StatusOr<Json> obey(const std::string& line, Model& model, std::vector<Tensor>& inputs, std::vector<Tensor>& outputs) {
  std::istringstream words(line);
  std::string command, operand;
  words >> command >> std::ws;
  std::getline(words, operand);
  if (command == "inputs") {
    CENOTE_ASSIGN_OR_RETURN(inputs, read_tensors(operand));
    return Json::object();
  }
  if (command == "outputs") {
    CENOTE_RETURN_IF_ERROR(write_tensors(operand, outputs));
    return Json::object();
  }
  const int runs = std::atoi(operand.c_str());
  if (command != "run" || runs < 1 || runs > kRunsMax) {
    return absl::InvalidArgumentError(str_cat("'", line, "': write 'inputs STEM', 'run N' (1 to ", kRunsMax, ") or 'outputs STEM'"));
  }
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const Instant begin = monotonic_now();
    CENOTE_ASSIGN_OR_RETURN(outputs, model.run(inputs, {}, nullptr));
    times.push_back((monotonic_now() - begin).ms());
  }
  return Json{{"ms", times}};
}

int serve(const std::string& path, int threads) {
  absl::StatusOr<Loaded> loaded = load(path, threads);
  answer(loaded.ok() ? Json{{"ready", true}} : failure(loaded.status()));
  if (!loaded.ok()) return exit_code(loaded.status().code());
  std::vector<Tensor> inputs, outputs;
  for (std::string line; std::getline(std::cin, line);) {
    const absl::StatusOr<Json> result = obey(line, *loaded->model, inputs, outputs);
    answer(result.ok() ? *result : failure(result.status()));
  }
  return 0;
}

absl::StatusOr<Json> time_nodes(const std::string& path, const std::string& stem, int threads, int rounds) {
  CENOTE_ASSIGN_OR_RETURN(const Loaded loaded, load(path, threads));
  CENOTE_ASSIGN_OR_RETURN(const std::vector<Tensor> inputs, read_tensors(stem));
  const Manifest& manifest = loaded.folder.manifest;
  CENOTE_ASSIGN_OR_RETURN(const Graph graph, parse_graph(manifest.graph, manifest.tensors, manifest.signature));
  const std::vector<uint64_t> ends = loaded.model->node_weight_ends();
  std::vector<std::vector<double>> times(graph.nodes.size());
  for (int round = 0; round <= rounds; ++round) {
    std::vector<Instant> begins;
    begins.reserve(graph.nodes.size() + 1);
    CENOTE_RETURN_IF_ERROR(
        loaded.model->run(inputs, {.on_node = [&](size_t) { begins.push_back(monotonic_now()); }}, nullptr).status());
    begins.push_back(monotonic_now());
    if (round == 0) continue;  // Kernels warm up.
    for (size_t i = 0; i < graph.nodes.size(); ++i) times[i].push_back((begins[i + 1] - begins[i]).ms());
  }
  Json nodes = Json::array();
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    std::nth_element(times[i].begin(), times[i].begin() + times[i].size() / 2, times[i].end());
    nodes.push_back({{"name", graph.nodes[i].name},
                     {"target", graph.nodes[i].target},
                     {"ms", times[i][times[i].size() / 2]},
                     {"weight_end", ends[i]}});
  }
  return nodes;
}

absl::StatusOr<Json> check(const std::string& path) {
  CENOTE_ASSIGN_OR_RETURN(const GraphFolder folder, read_graph_folder(path));
  CENOTE_ASSIGN_OR_RETURN(const GraphInfo info,
                          check_graph(folder.manifest.graph, folder.manifest.tensors, folder.manifest.signature));
  return Json{{"nodes", info.nodes}, {"operators", info.operators}};
}

int print(const absl::StatusOr<Json>& result) {
  answer(result.ok() ? *result : failure(result.status()));
  return exit_code(result.status().code());
}

int run(const std::vector<std::string>& arguments) {
  const int threads = number_after(arguments, "--threads", 0);
  const int rounds = number_after(arguments, "--rounds", 5);
  if (arguments.size() >= 2 && arguments[0] == "check") return print(check(arguments[1]));
  if (arguments.size() >= 2 && arguments[0] == "run") return serve(arguments[1], threads);
  if (arguments.size() >= 3 && arguments[0] == "nodes" && rounds >= 1 && rounds <= kRunsMax) {
    return print(time_nodes(arguments[1], arguments[2], threads, rounds));
  }
  std::cerr << "usage: cenote-graph check FOLDER | run FOLDER [--threads N] | nodes FOLDER STEM [--threads N] [--rounds N]\n";
  return exit_code(absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cenote::execute

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // Never outlive the bench or test that started it.
  return cenote::execute::run(std::vector<std::string>(argv + 1, argv + argc));
}
