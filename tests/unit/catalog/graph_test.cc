// Goal: a graph is taken only if it is whole: defined before use, bounded, of allowed operators, in agreement
// with the manifest; what is wrong is named.
#include "catalog/graph.h"

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cenote {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<TensorEntry> kTensors = {{.name = "w", .shape = {4}, .size_bytes = 16}};
const Signature kSignature{.inputs = {{.name = "x", .shape = {-1, 4}}},
                           .outputs = {{.name = "y", .shape = {-1, 4}}}};
constexpr char kGood[] =
    R"({"format":"cenote.graph","version":1,"inputs":["x"],"weights":[["w_","w"]],"nodes":[)"
    R"({"o":"n","t":"aten::sym_size.int","a":[{"n":"x"},0]},)"
    R"({"o":"m","t":"py::mul","a":[{"n":"n"},2]},)"
    R"({"o":"y","t":"aten::add.Tensor","a":[{"n":"x"},{"n":"w_"}],"k":{"alpha":{"f":"inf"}}},)"
    R"({"o":"z","t":"aten::view","a":[{"n":"y"},[{"n":"m"},-1]],"k":{}},)"
    R"({"o":"q","t":"aten::to.dtype_layout","a":[{"n":"z"}],"k":{"dtype":{"dtype":"f32"},"device":{"device":"cpu"},)"
    R"("layout":{"layout":"strided"},"memory_format":{"memory_format":"channels_last"}}})"
    R"(],"outputs":[{"n":"q"}]})";

absl::Status check(const std::string& text) {
  return check_graph(text, kTensors, kSignature).status();
}
absl::Status check_with(const std::string& from, const std::string& to) {
  const std::string text = absl::StrReplaceAll(kGood, {{from, to}});
  EXPECT_NE(text, kGood) << from;
  return check(text);
}
std::string message(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(Graph, that_is_whole_is_taken) {
  const auto info = check_graph(kGood, kTensors, kSignature);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->nodes, 5u);
  EXPECT_THAT(info->operators, ElementsAre("aten::add.Tensor", "aten::sym_size.int", "aten::to.dtype_layout",
                                           "aten::view", "py::mul"));
  const Graph graph = *parse_graph(kGood, kTensors, kSignature);
  EXPECT_EQ(graph.value_count(), 7u);
  EXPECT_EQ(graph.outputs, std::vector<ValueIndex>{6});
  EXPECT_EQ(graph.nodes[2].arguments[1].integer, graph.first_weight());
}

TEST(Graph, that_uses_a_value_before_its_definition_is_refused) {
  EXPECT_THAT(message(check_with(R"([{"n":"y"},)", R"([{"n":"z"},)")),
              HasSubstr("value 'z' is used before it is defined"));
  EXPECT_THAT(message(check_with(R"("outputs":[{"n":"q"}])", R"("outputs":[{"n":"nowhere"}])")),
              HasSubstr("'nowhere'"));
}

TEST(Graph, that_defines_a_value_twice_is_refused) {
  EXPECT_THAT(message(check_with(R"("o":"z")", R"("o":"x")")), HasSubstr("value 'x' is defined twice"));
}

TEST(Graph, that_disagrees_with_the_manifest_is_refused) {
  EXPECT_THAT(message(check_with(R"(["w_","w"])", R"(["w_","v"])")),
              HasSubstr("the manifest has no tensor 'v'"));
  EXPECT_THAT(message(check_with(R"("inputs":["x"])", R"("inputs":["x","u"])")),
              HasSubstr("2 inputs, the signature has 1"));
  EXPECT_THAT(message(check_with(R"([{"n":"q"}]})", R"([]})")), HasSubstr("0 outputs, the signature has 1"));
}

TEST(Graph, of_an_operator_outside_the_allow_list_is_refused_by_name) {
  for (const char* target : {"aten::from_file", "aten::add.out", "aten::sum.IntList_out", "py::import",
                             "prims::add", "aten::", ""}) {
    const absl::Status status = check_with("py::mul", target);
    EXPECT_FALSE(status.ok()) << target;
    if (*target == '\0') continue;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("operator '") + target + "' (node m)"));
  }
}

TEST(Graph, of_another_version_says_which) {
  const absl::Status status = check_with(R"("version":1)", R"("version":2)");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 2, this program reads version 1"));
  EXPECT_THAT(message(check_with("cenote.graph", "other.graph")), HasSubstr("format"));
}

TEST(Graph, whose_arguments_are_malformed_is_refused) {
  EXPECT_THAT(message(check_with(R"({"f":"inf"})", R"({"f":"infinite"})")),
              HasSubstr("neither a number nor nan"));
  EXPECT_THAT(message(check_with(R"({"f":"inf"})", R"({"g":"inf"})")), HasSubstr("unknown tag 'g'"));
  EXPECT_THAT(message(check_with(R"({"f":"inf"})", R"({"f":"inf","n":"x"})")),
              HasSubstr("not one tagged value"));
  EXPECT_THAT(message(check_with(R"({"f":"inf"})", R"({"c":[1]})")), HasSubstr("two parts"));
  EXPECT_THAT(message(check_with(R"({"n":"n"},2])", R"({"n":"n"},9223372036854775808])")),
              HasSubstr("64 bits"));
}

TEST(Graph, beyond_a_bound_is_refused_before_it_is_parsed) {
  EXPECT_THAT(message(check(std::string(100000, '['))), HasSubstr("nested deeper than"));
  std::string commas = "[";
  commas.append(kGraphElementsMax + 1, ',');
  EXPECT_THAT(message(check(commas)), HasSubstr("elements"));
  EXPECT_THAT(message(check(std::string(kGraphBytesMax + 1, ' '))), HasSubstr("bytes, at most"));
  EXPECT_THAT(message(check_with(R"("o":"z")", "\"o\":\"" + std::string(kGraphNameBytesMax + 1, 'z') + "\"")),
              HasSubstr("are allowed"));
}

TEST(Graph, that_is_cut_short_anywhere_is_refused) {
  const std::string good = kGood;
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(check(good.substr(0, length)).ok()) << length;
}

TEST(Allow_list, is_sorted_and_admits_overloads_but_no_out_variants) {
  EXPECT_GT(operators_allowed().size(), 500u);
  EXPECT_TRUE(std::is_sorted(operators_allowed().begin(), operators_allowed().end()));
  EXPECT_TRUE(std::is_sorted(python_operators().begin(), python_operators().end()));
  EXPECT_TRUE(operator_allowed("aten::add"));
  EXPECT_TRUE(operator_allowed("aten::add.Tensor"));
  EXPECT_FALSE(operator_allowed("aten::add.out"));
  EXPECT_FALSE(operator_allowed("aten::ad"));
}

}  // namespace
}  // namespace cenote
