// Goal: numbers of a graph follow Python's rules, and what has no answer is an error. The expected values are Python's own.
#include "execute/torch/python_operators.h"

#include <cmath>
#include <limits>

#include "ATen/core/ivalue_inl.h"
#include "gtest/gtest.h"

namespace cenote::execute {
namespace {

using c10::IValue;
using Op = PythonOperator;
constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();

int64_t integer(Op op, int64_t a, int64_t b) {
  const IValue operands[] = {a, b};
  const auto result = apply_python(op, operands);
  EXPECT_TRUE(result.ok() && result->isInt()) << result.status();
  return result.ok() ? result->toInt() : 0;
}
absl::Status failure(Op op, const IValue& a, const IValue& b) {
  const IValue operands[] = {a, b};
  return apply_python(op, operands).status();
}

TEST(Numbers, divide_towards_minus_infinity) {
  EXPECT_EQ(integer(Op::kFloorDiv, 7, 2), 3);
  EXPECT_EQ(integer(Op::kFloorDiv, -7, 2), -4);
  EXPECT_EQ(integer(Op::kFloorDiv, 7, -2), -4);
  EXPECT_EQ(integer(Op::kMod, -7, 2), 1);
  EXPECT_EQ(integer(Op::kMod, 7, -2), -1);
  EXPECT_EQ(integer(Op::kMod, kMin, -1), 0);
  EXPECT_EQ(integer(Op::kPow, 3, 4), 81);
  EXPECT_EQ(integer(Op::kMax, 3, 4), 4);
  EXPECT_EQ(integer(Op::kMin, 3, 4), 3);
}

TEST(Numbers, that_have_no_answer_are_errors) {
  EXPECT_FALSE(failure(Op::kFloorDiv, int64_t{1}, int64_t{0}).ok());
  EXPECT_FALSE(failure(Op::kMod, int64_t{1}, int64_t{0}).ok());
  EXPECT_FALSE(failure(Op::kTrueDiv, int64_t{1}, int64_t{0}).ok());
  EXPECT_FALSE(failure(Op::kFloorDiv, kMin, int64_t{-1}).ok());
  EXPECT_FALSE(failure(Op::kMul, kMax, int64_t{2}).ok());
  EXPECT_FALSE(failure(Op::kAdd, kMax, int64_t{1}).ok());
  EXPECT_FALSE(failure(Op::kPow, int64_t{10}, int64_t{19}).ok());
  EXPECT_FALSE(failure(Op::kAdd, IValue(), int64_t{1}).ok());
  const IValue huge[] = {1e300};
  EXPECT_FALSE(apply_python(Op::kFloor, huge).ok());
  const IValue nan[] = {std::nan("")};
  EXPECT_FALSE(apply_python(Op::kInt, nan).ok());
}

TEST(Numbers, mix_whole_and_real_as_python_does) {
  const IValue mixed[] = {int64_t{7}, 2.0};
  EXPECT_EQ(apply_python(Op::kFloorDiv, mixed)->toDouble(), 3.0);
  const IValue whole[] = {int64_t{7}, int64_t{2}};
  EXPECT_EQ(apply_python(Op::kTrueDiv, whole)->toDouble(), 3.5);
  EXPECT_TRUE(apply_python(Op::kGt, mixed)->toBool());
  const IValue half[] = {2.5};
  EXPECT_EQ(apply_python(Op::kRound, half)->toInt(), 2);
  EXPECT_EQ(apply_python(Op::kCeil, half)->toInt(), 3);
  const IValue minus[] = {-2.5};
  EXPECT_EQ(apply_python(Op::kTrunc, minus)->toInt(), -2);
  const IValue choice[] = {false, int64_t{1}, int64_t{2}};
  EXPECT_EQ(apply_python(Op::kIte, choice)->toInt(), 2);
  const IValue many[] = {int64_t{1}, int64_t{2}, int64_t{3}};
  EXPECT_EQ(apply_python(Op::kSum, many)->toInt(), 6);
  EXPECT_EQ(apply_python(Op::kSum, {})->toInt(), 0);
}

TEST(Items, are_found_from_both_ends_and_checked) {
  const IValue tuple = c10::ivalue::Tuple::create({IValue(int64_t{4}), IValue(int64_t{5})});
  EXPECT_EQ(integer(Op::kAdd, 0, 0), 0);
  const IValue last[] = {tuple, int64_t{-1}};
  EXPECT_EQ(apply_python(Op::kGetItem, last)->toInt(), 5);
  EXPECT_FALSE(failure(Op::kGetItem, tuple, int64_t{2}).ok());
  EXPECT_FALSE(failure(Op::kGetItem, tuple, int64_t{-3}).ok());
  EXPECT_FALSE(failure(Op::kGetItem, int64_t{1}, int64_t{0}).ok());
}

}  // namespace
}  // namespace cenote::execute
