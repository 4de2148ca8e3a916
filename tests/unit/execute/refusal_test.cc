// Goal: graphs and manifests that cannot or must not run are refused at load, with the operator's name and the reason; operators that
// fail at run time say so by name.
#include <nlohmann/json.hpp>

#include "exported_model.h"
#include "gmock/gmock.h"

namespace cenote::execute {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// One f32 input x[batch, 4], one weight w[4] at offset 0, one output y.
struct Small {
  explicit Small(const std::string& nodes, const std::string& output = "y")
      : weights(4096) {
    manifest.tensors.push_back({.name = "w", .shape = {4}, .offset_bytes = 0, .size_bytes = 16});
    manifest.signature.inputs.push_back({.name = "x", .shape = {-1, 4}});
    manifest.signature.outputs.push_back({.name = "y", .shape = {-1, 4}});
    manifest.graph = R"({"format":"cenote.graph","version":1,"inputs":["x"],"weights":[["w","w"]],"nodes":[)" + nodes +
                     R"(],"outputs":[{"n":")" + output + R"("}]})";
    std::memset(weights.data(), 0, weights.size());
  }

  absl::StatusOr<std::unique_ptr<Model>> load() {
    auto engine = open_torch_engine({.threads = 1});
    return (*engine)->load(manifest, weights.span());
  }
  absl::Status load_status() { return load().status(); }
  absl::StatusOr<std::vector<Tensor>> run(int64_t batch = 1) {
    auto model = load();
    if (!model.ok()) return model.status();
    Tensor x{.name = "x", .shape = {batch, 4}, .bytes = std::string(static_cast<size_t>(batch) * 16, '\0')};
    return (*model)->run({x}, {}, nullptr);
  }

  Manifest manifest;
  HostRange weights;
};

std::string message(const absl::Status& status) { return std::string(status.message()); }

TEST(Refusal, names_an_operator_outside_the_allow_list) {
  for (const char* target : {"aten::from_file", "aten::resize_", "aten::set_.source_Tensor", "aten::randn", "aten::add.out",
                             "torchvision::nms", "aten::_unsafe_index.Tensor", "py::exec", "prim::Print"}) {
    Small small(std::string(R"({"o":"y","t":")") + target + R"(","a":[{"n":"x"}]})");
    const absl::Status status = small.load_status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << target;
    EXPECT_THAT(message(status), AllOf(HasSubstr(target), HasSubstr("(node y)"), HasSubstr("allow-list"))) << target;
  }
}

TEST(Refusal, names_an_argument_that_does_not_fit_the_schema) {
  struct Case {
    const char* node;
    const char* says;
  };
  const Case cases[] = {
      {R"({"o":"y","t":"aten::relu","a":[]})", "argument 'self' is missing"},
      {R"({"o":"y","t":"aten::relu","a":[{"n":"x"},1]})", "more arguments"},
      {R"({"o":"y","t":"aten::relu","a":[{"n":"x"}],"k":{"self":{"n":"x"}}})", "given twice"},
      {R"({"o":"y","t":"aten::relu","a":["text"]})", "where a tensor is expected"},
      {R"({"o":"y","t":"aten::relu","a":[[{"n":"x"}]]})", "a list where Tensor is expected"},
      {R"({"o":"y","t":"aten::softmax.int","a":[{"n":"x"},1.5]})", "a float where int is expected"},
      {R"({"o":"y","t":"aten::view","a":[{"n":"x"},["a"]]})", "not a number"},
      {R"({"o":"y","t":"aten::cat","a":[[1,2]]})", "not a value"},
      {R"({"o":"y","t":"aten::to.dtype","a":[{"n":"x"},{"dtype":"f7"}]})", "unknown dtype 'f7'"},
      {R"({"o":"y","t":"aten::clone","a":[{"n":"x"}],"k":{"memory_format":{"memory_format":"odd"}}})", "unknown memory format"},
      {R"({"o":"y","t":"aten::add.Nothing","a":[{"n":"x"},1]})", "this libtorch has no such operator"},
      {R"({"o":"y","t":"py::add","a":[1]})", "1 operands, 2 expected"},
  };
  for (const Case& c : cases) {
    const absl::Status status = Small(c.node).load_status();
    EXPECT_FALSE(status.ok()) << c.node;
    EXPECT_THAT(message(status), AllOf(HasSubstr("(node y)"), HasSubstr(c.says))) << c.node;
  }
}

TEST(Refusal, of_a_graph_that_writes_weights_unless_they_are_marked) {
  const std::string nodes = R"({"o":"v","t":"aten::view","a":[{"n":"w"},[4]]},{"o":"y","t":"aten::add_.Tensor","a":[{"n":"v"},1]})";
  Small small(nodes);
  EXPECT_THAT(message(small.load_status()), HasSubstr("it writes tensor 'w'"));
  Small hidden(R"({"o":"b","t":"aten::batch_norm","a":[{"n":"x"},null,null,{"n":"w"},null,true,0.1,0.00001,false]},)"
               R"({"o":"y","t":"aten::relu","a":[{"n":"b"}]})");
  EXPECT_THAT(message(hidden.load_status()), HasSubstr("it writes tensor 'w'"));
  Small marked(nodes);
  marked.manifest.tensors[0].mutated = true;
  marked.manifest.signature.outputs[0].shape = {4};
  auto outputs = marked.run();
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  EXPECT_EQ(reinterpret_cast<const float*>(outputs->front().bytes.data())[3], 1.0f);
  EXPECT_EQ(reinterpret_cast<const float*>(marked.weights.data())[3], 0.0f);
}

TEST(Refusal, of_a_manifest_whose_tensors_do_not_lie_in_the_range) {
  Small beyond(R"({"o":"y","t":"aten::add.Tensor","a":[{"n":"x"},{"n":"w"}]})");
  beyond.manifest.tensors[0].offset_bytes = beyond.weights.size() - 8;
  EXPECT_THAT(message(beyond.load_status()), HasSubstr("tensor 'w'"));
  Small odd(R"({"o":"y","t":"aten::add.Tensor","a":[{"n":"x"},{"n":"w"}]})");
  odd.manifest.tensors[0].offset_bytes = 2;
  EXPECT_THAT(message(odd.load_status()), HasSubstr("not a multiple"));
  Small size(R"({"o":"y","t":"aten::add.Tensor","a":[{"n":"x"},{"n":"w"}]})");
  size.manifest.tensors[0].shape = {1ll << 62};
  EXPECT_EQ(size.load_status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(A_failing_operator, is_named_and_the_model_runs_again) {
  Small small(R"({"o":"y","t":"aten::view","a":[{"n":"x"},[2,2]]})");
  small.manifest.signature.outputs[0].shape = {2, 2};
  auto model = small.load();
  ASSERT_TRUE(model.ok()) << model.status();
  const auto x = [](int64_t batch) {
    return Tensor{.name = "x", .shape = {batch, 4}, .bytes = std::string(static_cast<size_t>(batch) * 16, '\0')};
  };
  const auto failed = (*model)->run({x(2)}, {}, nullptr);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(message(failed.status()), AllOf(HasSubstr("aten::view"), HasSubstr("(node y)")));
  EXPECT_TRUE((*model)->run({x(1)}, {}, nullptr).ok());
}

TEST(A_failing_operator, tells_the_callers_mistakes_and_missing_memory_apart) {
  Small lookup(R"({"o":"i","t":"aten::add.Scalar","a":[{"n":"x"},9]},{"o":"l","t":"aten::to.dtype","a":[{"n":"i"},{"dtype":"i64"}]},)"
               R"({"o":"t","t":"aten::view","a":[{"n":"w"},[4,1]]},{"o":"y","t":"aten::embedding","a":[{"n":"t"},{"n":"l"}]})");
  EXPECT_EQ(lookup.run().status().code(), absl::StatusCode::kInvalidArgument) << lookup.run().status();
  Small huge(R"({"o":"y","t":"aten::zeros","a":[[1152921504606846976]]})");
  EXPECT_EQ(huge.run().status().code(), absl::StatusCode::kResourceExhausted) << huge.run().status();
  Small number(R"({"o":"n","t":"aten::sym_size.int","a":[{"n":"x"},0]},{"o":"d","t":"py::floordiv","a":[{"n":"n"},0]},)"
               R"({"o":"y","t":"aten::mul.Tensor","a":[{"n":"x"},{"n":"d"}]})");
  EXPECT_THAT(message(number.run().status()), AllOf(HasSubstr("py::floordiv"), HasSubstr("(node d)"), HasSubstr("zero")));
}

TEST(Old_memory, is_never_shown) {
  Small small(R"({"o":"y","t":"aten::empty.memory_format","a":[[1,4096]]})");
  auto outputs = small.run();
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  EXPECT_EQ(outputs->front().bytes.find_first_not_of('\0'), std::string::npos);
}

TEST(Outputs, of_another_dtype_than_the_signature_says_are_refused) {
  Small small(R"({"o":"y","t":"aten::to.dtype","a":[{"n":"x"},{"dtype":"f64"}]})");
  EXPECT_THAT(message(small.run().status()), HasSubstr("output 'y'"));
}

TEST(Outputs, may_be_inputs_and_weights_themselves) {
  EXPECT_TRUE(Small("", "x").run().ok());
  auto weight = Small("", "w").run();
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->front().shape, std::vector<int64_t>{4});
}

TEST(Engine, refuses_an_impossible_number_of_threads) {
  EXPECT_EQ(open_torch_engine({.threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_torch_engine({.threads = 1 << 20}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cenote::execute
