// Goal: a tensor whose bytes do not fit its shape is never taken for one, and the limits that settings allow
// are those of the messages.
#include "message/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/cluster_settings.h"
#include "folders.h"
#include "message/infer.h"
#include "message/member.h"

namespace cenote {
namespace {

TEST(Tensor, shape_and_bytes_must_agree) {
  EXPECT_TRUE(check_tensor({"x", DType::kF32, {2, 3}, std::string(24, '\0')}).ok());
  EXPECT_TRUE(check_tensor({"x", DType::kBool, {}, "1"}).ok());
  EXPECT_TRUE(check_tensor({"x", DType::kF64, {0, 1ll << 62}, ""}).ok());
  EXPECT_THAT(check_tensor({"x", DType::kF32, {2, 3}, std::string(23, '\0')}).message(),
              testing::HasSubstr("tensor 'x': 23 bytes given, f32[2, 3]"));
  EXPECT_FALSE(check_tensor({"x", DType::kF32, {-1}, ""}).ok());
  EXPECT_FALSE(check_tensor({"x", DType::kF32, {1ll << 62, 4}, ""}).ok());
  // A product that wraps to 0 in 64 bits.
  EXPECT_FALSE(check_tensor({"x", DType::kF32, {1ll << 62}, ""}).ok());
}

TEST(Tensor, dtypes_survive_their_names) {
  for (int value = 0; value < 256; ++value) {
    if (!dtype_valid(value)) continue;
    const DType dtype = static_cast<DType>(value);
    EXPECT_EQ(*dtype_from_name(dtype_name(dtype)), dtype);
    EXPECT_GT(dtype_bytes(dtype), 0u);
  }
  EXPECT_FALSE(dtype_from_name("float32").ok());
  EXPECT_EQ(describe(DType::kBf16, {-1, 8}), "bf16[batch, 8]");
}

TEST(Limits, settings_cannot_ask_for_more_payload_than_a_message_holds) {
  const std::string file = settings_folder() + "/local.toml";
  const std::map<std::string, std::string> home = {{"HOME", "/h"}};
  const auto most =
      load_cluster_settings(file, {"limits.payload_max=" + std::to_string(kPayloadBytesMax)}, home);
  ASSERT_TRUE(most.ok()) << most.status();
  EXPECT_EQ(most->payload_bytes_max, kPayloadBytesMax);
  EXPECT_FALSE(
      load_cluster_settings(file, {"limits.payload_max=" + std::to_string(kPayloadBytesMax + 1)}, home).ok());
}

}  // namespace
}  // namespace cenote
