// Goal: a manifest comes back as it was written, byte for byte the same on every machine, and nothing damaged
// or hostile is accepted.
#include "catalog/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "../golden.h"
#include "base/hash.h"

namespace cenote {
namespace {

using testing::HasSubstr;

BlockEntry block(uint32_t size, const std::string& seed) {
  BlockEntry entry{.ref = {sha256(as_bytes(seed)), size}};
  for (uint64_t i = 0; i < round_up(size, kChunkBytes) / kChunkBytes; ++i)
    entry.chunk_sums.push_back(xxh3_64(as_bytes(seed + std::to_string(i))));
  return entry;
}

// Two blocks that join, one padded; a tied pair, a table, an empty tensor, a spanning tensor; two files.
Manifest sample() {
  Manifest m;
  m.blocks = {block(kBlockBytesMax, "a"), block(8192, "b"), block(5000, "c")};
  m.files = {{"tokenizer.json", 300, {block(300, "f")}}, {"empty.txt", 0, {}}};
  m.tensors = {
      {"layer.weight", TensorKind::kParameter, DType::kF32, {1024, 1025}, 0, 4 * kMiB + 4096, false, false},
      {"layer.bias", TensorKind::kBuffer, DType::kF16, {16}, 4 * kMiB + 4096, 32, false, true},
      {"embed", TensorKind::kParameter, DType::kBf16, {10, 200}, 4 * kMiB + 8192, 4000, true, false},
      {"head", TensorKind::kParameter, DType::kBf16, {10, 200}, 4 * kMiB + 8192, 4000, false, false},
      {"none", TensorKind::kConstant, DType::kI64, {0, 3}, 0, 0, false, false}};
  m.signature = {
      {{"x", DType::kF32, {-1, 3, 224, 224}}}, {{"y", DType::kF32, {-1, 1000}}}, "[0]", "{\"out\":0}"};
  m.graph = R"({"format":"cenote.graph","version":1})";
  uint64_t offset = 0;
  for (BlockEntry& b : m.blocks)
    b.offset_bytes = offset, offset += round_up(b.ref.size_bytes, kBlockAlignBytes);
  return m;
}

bool same(const Manifest& a, const Manifest& b) {
  return encode_manifest(a) == encode_manifest(b);
}

std::string refusal(const std::function<void(Manifest&)>& damage) {
  Manifest m = sample();
  damage(m);
  const absl::Status direct = check_manifest(m);
  const absl::Status decoded = decode_manifest(encode_manifest(m)).status();
  EXPECT_EQ(direct.ok(), decoded.ok()) << direct << decoded;
  return std::string(decoded.message());
}

TEST(Manifest, the_encoding_is_the_one_on_file) {
  ASSERT_TRUE(check_manifest(sample()).ok()) << check_manifest(sample());
  expect_golden("manifest_v1.bin", encode_manifest(sample()));
  EXPECT_EQ(sha256(as_bytes(encode_manifest(sample()))).hex(),
            "adb883f20fbd65ee8b5f7bc625fe88ab393ef06712be5bd2464b2466759ecfad");
}

TEST(Manifest, what_was_written_comes_back_with_block_offsets) {
  const auto decoded = decode_manifest(encode_manifest(sample()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_TRUE(same(*decoded, sample()));
  EXPECT_EQ(decoded->blocks[2].offset_bytes, 4 * kMiB + 8192);
  EXPECT_EQ(decoded->range_bytes(), 4 * kMiB + 16384);
  EXPECT_EQ(decoded->tensors[3].name, "head");
  EXPECT_EQ(decoded->tensors[1].mutated, true);
  EXPECT_EQ(decoded->signature.inputs[0].shape, (std::vector<int64_t>{-1, 3, 224, 224}));
  EXPECT_EQ(decoded->files[0].blocks[0].ref.size_bytes, 300u);
  EXPECT_EQ(decode_manifest(encode_manifest(Manifest{}))->range_bytes(), 0u);
}

TEST(Manifest, an_agent_reads_the_blocks_alone) {
  const auto blocks = decode_manifest_blocks(encode_manifest(sample()));
  ASSERT_TRUE(blocks.ok());
  ASSERT_EQ(blocks->size(), 3u);
  EXPECT_EQ((*blocks)[1].offset_bytes, 4 * kMiB);
  EXPECT_EQ((*blocks)[0].chunk_sums, sample().blocks[0].chunk_sums);
}

TEST(Manifest, tensors_that_overlap_or_leave_the_range_are_refused) {
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[1].offset_bytes = 4 * kMiB; }), HasSubstr("overlap"));
  EXPECT_THAT(
      refusal([](Manifest& m) {
        m.tensors[3] = {"head", TensorKind::kParameter, DType::kBf16, {10, 100}, 4 * kMiB + 8192, 2000};
      }),
      HasSubstr("overlap"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[2].offset_bytes = 4 * kMiB + 12288 + 512; }),
              HasSubstr("the range has"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[2].offset_bytes = UINT64_MAX - 511; }),
              HasSubstr("the range has"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[2].offset_bytes += 8; }), HasSubstr("multiple of 512"));
  // In the padding after the last block's 5000 bytes.
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[2].offset_bytes = 4 * kMiB + 8192 + 1536; }),
              HasSubstr("blocks it begins in end"));
  // Across the padding of a block that is not full.
  EXPECT_THAT(refusal([](Manifest& m) {
                m.blocks[1].ref.size_bytes = 8000, m.tensors[1].shape = {2048},
                m.tensors[1].size_bytes = 4096;
              }),
              HasSubstr("blocks it begins in end"));
}

TEST(Manifest, sizes_names_and_kinds_that_do_not_fit_are_refused) {
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[0].size_bytes += 4; }), HasSubstr("does not have"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[0].shape = {1ll << 40, 1ll << 40}; }), HasSubstr("2^63"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[0].shape = {-1}; }), HasSubstr("negative"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[4].shape.assign(17, 0); }), HasSubstr("17 dimensions"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[1].name = "layer.weight"; }), HasSubstr("twice"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[1].name = "a\nb"; }), HasSubstr("plain text"));
  EXPECT_THAT(refusal([](Manifest& m) { m.tensors[1].name.clear(); }), HasSubstr("0 bytes"));
  EXPECT_THAT(refusal([](Manifest& m) { m.signature.inputs.push_back(m.signature.inputs[0]); }),
              HasSubstr("input 'x' is there twice"));
  EXPECT_THAT(refusal([](Manifest& m) { m.signature.outputs[0].shape = {-2}; }),
              HasSubstr("dimension of -2"));
  EXPECT_THAT(refusal([](Manifest& m) { m.files[0].name = "../../etc/passwd"; }), HasSubstr("without '/'"));
  EXPECT_THAT(refusal([](Manifest& m) { m.files[1].name = m.files[0].name; }), HasSubstr("twice"));
  EXPECT_THAT(refusal([](Manifest& m) { m.files[0].size_bytes = 301; }), HasSubstr("its blocks 300"));
}

TEST(Manifest, blocks_of_wrong_size_or_without_their_sums_are_refused) {
  EXPECT_THAT(refusal([](Manifest& m) { m.blocks[0].ref.size_bytes = 0; }), HasSubstr("0 bytes"));
  EXPECT_THAT(refusal([](Manifest& m) { m.blocks[0].ref.size_bytes = kBlockBytesMax + 1; }),
              HasSubstr("4194305 bytes"));
  EXPECT_THAT(refusal([](Manifest& m) { m.blocks[1].chunk_sums.clear(); }),
              HasSubstr("0 chunk sums, expected 1"));
  EXPECT_THAT(refusal([](Manifest& m) { m.blocks[1].chunk_sums.resize(2); }), HasSubstr("2 chunk sums"));
}

TEST(Manifest, the_frame_is_strict) {
  const std::string good = encode_manifest(sample());
  const auto message = [](std::string bytes) {
    return std::string(decode_manifest(bytes).status().message());
  };
  EXPECT_THAT(message(""), HasSubstr("not a manifest"));
  EXPECT_THAT(message("CENOTEM2" + good.substr(8)), HasSubstr("not a manifest"));
  std::string newer = good;
  newer[8] = 2;
  EXPECT_THAT(message(newer), HasSubstr("version 2, this Cenote reads 1"));
  EXPECT_THAT(message(good + "x"), HasSubstr("after the last section"));
  EXPECT_THAT(message(std::string(kManifestBytesMax + 1, 'C')), HasSubstr("at most"));
  for (size_t size = 0; size < good.size(); size += 7)
    EXPECT_FALSE(decode_manifest(good.substr(0, size)).ok()) << size;
}

// A count far beyond the bytes that are there must not be allocated.
TEST(Manifest, a_huge_count_is_refused_before_memory_is_taken_for_it) {
  const std::string bytes = encode_manifest(sample());
  const size_t blocks_at = 16 + 4 * 24;
  for (const int byte : {3, 7}) {  // 2^24 blocks, and more than there is memory.
    std::string hostile = bytes;
    hostile[blocks_at + byte] = 1;
    EXPECT_THAT(std::string(decode_manifest(hostile).status().message()), HasSubstr("do not fit"));
  }
}

TEST(Manifest, nested_json_is_refused_before_it_is_parsed) {
  std::string bytes = encode_manifest(Manifest{});
  // Replace section 3, the last but an empty graph, with brackets of the same kind.
  const std::string deep(100000, '[');
  std::string head = bytes.substr(0, bytes.find("{\"signature\""));
  const auto put = [&](size_t at, uint64_t value) {
    for (int i = 0; i < 8; ++i) head[at + i] = static_cast<char>(value >> (8 * i));
  };
  put(16 + 2 * 24 + 16, deep.size());
  put(16 + 3 * 24 + 8, head.size() + deep.size());
  EXPECT_THAT(std::string(decode_manifest(head + deep).status().message()), HasSubstr("nested 100000 deep"));
}

TEST(Manifest, chunk_sums_are_one_per_256_kib) {
  const std::string bytes(kChunkBytes * 2 + 1, 'x');
  const auto sums = chunk_sums(as_bytes(bytes));
  ASSERT_EQ(sums.size(), 3u);
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(sums[2], xxh3_64(as_bytes("x")));
}

RC_GTEST_PROP(ManifestProperty, damage_never_crashes_and_what_is_accepted_is_consistent, ()) {
  std::string bytes = encode_manifest(sample());
  const int changes = *rc::gen::inRange(1, 6);
  for (int i = 0; i < changes; ++i)
    bytes[*rc::gen::inRange<size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
  const auto decoded = decode_manifest(bytes);
  if (!decoded.ok()) return;
  RC_ASSERT(check_manifest(*decoded).ok());
  RC_ASSERT(decode_manifest(encode_manifest(*decoded)).ok());
  for (const TensorEntry& tensor : decoded->tensors)
    RC_ASSERT(tensor.offset_bytes + tensor.size_bytes <= decoded->range_bytes());
}

}  // namespace
}  // namespace cenote
