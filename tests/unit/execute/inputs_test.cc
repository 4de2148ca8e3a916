// Goal: inputs that do not fit a signature are refused with the input's name, what came and what is expected.
#include "execute/inputs.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cenote::execute {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Signature kSignature{.inputs = {{.name = "ids", .dtype = DType::kI64, .shape = {-1, 3}},
                                      {.name = "mask", .dtype = DType::kBool, .shape = {-1, 3}},
                                      {.name = "scale", .dtype = DType::kF32, .shape = {}}}};

std::vector<Tensor> good(int64_t batch) { return *zero_inputs(kSignature, batch); }

std::string refusal(const std::vector<Tensor>& inputs) {
  const absl::Status status = check_inputs(kSignature, inputs).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(Inputs, that_fit_have_one_batch) {
  for (int64_t batch : {1, 2, 5}) EXPECT_EQ(*check_inputs(kSignature, good(batch)), batch);
  std::vector<Tensor> unnamed = good(2);
  for (Tensor& tensor : unnamed) tensor.name.clear();
  EXPECT_TRUE(check_inputs(kSignature, unnamed).ok());
}

TEST(Inputs, of_wrong_count_name_or_order_are_refused) {
  std::vector<Tensor> inputs = good(1);
  inputs.pop_back();
  EXPECT_THAT(refusal(inputs), AllOf(HasSubstr("2 inputs given, 3 expected"), HasSubstr("'mask' bool[batch, 3]")));
  inputs = good(1);
  std::swap(inputs[0], inputs[1]);
  EXPECT_THAT(refusal(inputs), HasSubstr("input 'mask' was given where 'ids' is expected"));
}

TEST(Inputs, of_wrong_dtype_or_shape_are_refused) {
  std::vector<Tensor> inputs = good(1);
  inputs[0].dtype = DType::kF64;
  EXPECT_THAT(refusal(inputs), AllOf(HasSubstr("input 'ids'"), HasSubstr("f64[1, 3] given"), HasSubstr("i64[batch, 3] expected")));
  inputs = good(1);
  inputs[1].shape = {1, 4};
  EXPECT_THAT(refusal(inputs), AllOf(HasSubstr("input 'mask'"), HasSubstr("dimension 1 differs")));
  inputs = good(1);
  inputs[1].shape = {3};
  EXPECT_THAT(refusal(inputs), HasSubstr("the number of dimensions differs"));
  inputs = good(1);
  inputs[0].shape = {0, 3};
  EXPECT_THAT(refusal(inputs), HasSubstr("the batch must be at least 1"));
  inputs = good(1);
  inputs[0].shape = {-1, 3};
  EXPECT_THAT(refusal(inputs), HasSubstr("input 'ids'"));
}

TEST(Inputs, whose_batches_disagree_are_refused) {
  std::vector<Tensor> inputs = good(2);
  inputs[1] = good(3)[1];
  EXPECT_THAT(refusal(inputs), AllOf(HasSubstr("'mask'"), HasSubstr("its batch is 3, that of 'ids' is 2")));
}

TEST(Inputs, whose_bytes_do_not_fill_their_shape_are_refused) {
  std::vector<Tensor> inputs = good(1);
  inputs[2].bytes.pop_back();
  EXPECT_THAT(refusal(inputs), AllOf(HasSubstr("'scale'"), HasSubstr("3 bytes given")));
}

TEST(Zero_inputs, are_bounded) {
  const Signature huge{.inputs = {{.name = "x", .shape = {1 << 20, 1 << 20}}}};
  EXPECT_EQ(zero_inputs(huge, 1).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace cenote::execute
