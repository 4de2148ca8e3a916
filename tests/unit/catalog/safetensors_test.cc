// Goal: a good safetensors header gives its tensors, and a truncated or hostile one is refused with what is
// wrong.
#include "catalog/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace cenote {
namespace {

using testing::HasSubstr;

std::string file(const std::string& header, size_t data_bytes) {
  ByteWriter out;
  out.u64(header.size());
  out.raw(header.data(), header.size());
  return out.take() + std::string(data_bytes, '\0');
}

std::string refusal(const std::string& header, size_t data_bytes) {
  const std::string bytes = file(header, data_bytes);
  return std::string(parse_safetensors(bytes, bytes.size()).status().message());
}

TEST(Safetensors, tensors_come_in_the_order_of_their_bytes) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e":{"dtype":"I64","shape":[0],"data_offsets":[20,20]}})";
  const std::string bytes = file(header, 20);
  const auto views = parse_safetensors(bytes, bytes.size());
  ASSERT_TRUE(views.ok()) << views.status();
  ASSERT_EQ(views->size(), 3u);
  EXPECT_EQ((*views)[0].name, "a");
  EXPECT_EQ((*views)[0].begin, 8 + header.size());
  EXPECT_EQ((*views)[1].dtype, DType::kBf16);
  EXPECT_EQ((*views)[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((*views)[2].end, bytes.size());
  // The header alone is enough when the size is known.
  EXPECT_TRUE(parse_safetensors(bytes.substr(0, 8 + header.size()), bytes.size()).ok());
}

TEST(Safetensors, truncated_files_are_refused) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string bytes = file(header, 8);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parse_safetensors(bytes.substr(0, size), size).ok()) << size;
  EXPECT_THAT(refusal(header, 7), HasSubstr("within the file's 7 bytes"));
  EXPECT_THAT(refusal(header, 9), HasSubstr("nothing covers the last 1 bytes"));
}

TEST(Safetensors, a_header_beyond_the_limit_is_refused_before_it_is_read) {
  ByteWriter out;
  out.u64(UINT64_MAX);
  const std::string bytes = out.take() + std::string(100, 'x');
  EXPECT_THAT(parse_safetensors(bytes, bytes.size()).status().message(), HasSubstr("at most 16777216"));
}

TEST(Safetensors, hostile_headers_are_refused_by_tensor) {
  EXPECT_THAT(
      refusal(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      HasSubstr("'b' overlaps"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
              HasSubstr("nothing covers the 4 bytes before tensor 'a'"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
              HasSubstr("f32[3] does not have 8 bytes"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0),
              HasSubstr("2^63"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0),
              HasSubstr("does not have 0 bytes"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", 8),
              HasSubstr("negative"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", 8),
              HasSubstr("dtype 'F8_E4M3': convert it"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
              HasSubstr("data_offsets"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8),
              HasSubstr("not a whole number"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", 8),
              HasSubstr("not a whole number"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", 8),
              HasSubstr("4 fields"));
  EXPECT_THAT(refusal(R"({"a":5})", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(refusal("[]", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(refusal("{", 0), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("{\"\xff\":{}}", 0), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(std::string(5000, '['), 0), HasSubstr("nested 5000 deep"));
}

}  // namespace
}  // namespace cenote
