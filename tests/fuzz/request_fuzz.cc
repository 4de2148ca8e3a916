// Goal: a request's tensors are taken only if they fit the model's signature in every byte, and the rows of a table that they name are
// waited for in full and never outside the table.
// Input: a signature and tensors in a compact form (below), then a table and row numbers.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "execute/inputs.h"
#include "load/plan.h"
#include "message/infer.h"

namespace {

using namespace cenote;

DType dtype_of(uint8_t byte) { return static_cast<DType>(byte % 10 + 1); }

// A small number, or now and then one of the ends.
int64_t dimension(ByteReader& in) {
  const uint8_t byte = in.u8();
  if (byte < 0xf8) return byte % 8 - 1;
  return in.i64();
}

void inputs(ByteReader& in) {
  Signature signature;
  std::vector<Tensor> tensors;
  const size_t count = in.u8() % 4;
  for (size_t i = 0; i < count; ++i) {
    ValueSpec spec{.name = std::string(1, static_cast<char>('a' + in.u8() % 3)), .dtype = dtype_of(in.u8())};
    Tensor tensor{.name = in.u8() % 4 == 0 ? "" : spec.name, .dtype = in.u8() % 8 == 0 ? dtype_of(in.u8()) : spec.dtype};
    const size_t rank = in.u8() % 5;
    for (size_t d = 0; d < rank; ++d) {
      spec.shape.push_back(std::max<int64_t>(-1, dimension(in)));
      tensor.shape.push_back(spec.shape.back() >= 0 && in.u8() % 8 != 0 ? spec.shape.back() : dimension(in));
    }
    const auto elements = element_count(tensor.shape);
    const uint64_t wanted = elements.ok() && *elements < 4096 ? static_cast<uint64_t>(*elements) * dtype_bytes(tensor.dtype) : 0;
    tensor.bytes.resize(in.u8() % 8 == 0 ? in.u8() : wanted);
    signature.inputs.push_back(std::move(spec));
    tensors.push_back(std::move(tensor));
  }
  const auto batch = execute::check_inputs(signature, tensors);
  if (!batch.ok()) {
    CENOTE_CHECK(absl::IsInvalidArgument(batch.status()) && !batch.status().message().empty());
    return;
  }
  CENOTE_CHECK(*batch >= 1);
  for (size_t i = 0; i < count; ++i) {
    CENOTE_CHECK(check_tensor(tensors[i]).ok() && tensors[i].dtype == signature.inputs[i].dtype);
    for (size_t d = 0; d < tensors[i].shape.size(); ++d) {
      const int64_t given = signature.inputs[i].shape[d];
      CENOTE_CHECK(tensors[i].shape[d] == (given < 0 ? *batch : given));
    }
  }
  const auto zeros = execute::zero_inputs(signature, *batch);
  CENOTE_CHECK(zeros.ok() && execute::check_inputs(signature, *zeros).ok());
}

void rows(ByteReader& in) {
  std::vector<BlockEntry> blocks;
  uint64_t range = 0;
  const size_t count = in.u8() % 8;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t size = in.u32() % kBlockBytesMax + 1;
    blocks.push_back({.ref = {.id = {}, .size_bytes = size}, .offset_bytes = range});
    range += round_up(size, kBlockAlignBytes);
  }
  if (range == 0) return;
  // A table lies within its blocks' bytes and may end before the last one does, as a layout makes it.
  const uint64_t end = blocks.back().offset_bytes + blocks.back().ref.size_bytes - in.u8() % blocks.back().ref.size_bytes;
  const uint64_t begin = in.u64() % end;
  const uint64_t row_bytes = in.u32() % (end - begin) + 1;
  std::vector<int64_t> wanted;
  while (in.ok() && in.left() > 0 && wanted.size() < 64) wanted.push_back(in.u8() % 4 == 0 ? in.i64() : in.u8());
  const auto chunks = load::chunks_of_rows(blocks, begin, end, row_bytes, wanted);
  const auto inside = [&](int64_t row) { return row >= 0 && static_cast<uint64_t>(row) < (end - begin) / row_bytes; };
  CENOTE_CHECK(chunks.ok() == std::all_of(wanted.begin(), wanted.end(), inside));
  if (!chunks.ok()) return;
  const auto padding = [&](uint64_t offset) {
    return std::none_of(blocks.begin(), blocks.end(), [&](const BlockEntry& b) { return offset >= b.offset_bytes && offset < b.offset_bytes + b.ref.size_bytes; });
  };
  const auto has = [&](uint64_t offset) {
    return padding(offset) || std::any_of(chunks->begin(), chunks->end(), [&](const WantedChunks& some) {
      const BlockEntry& block = blocks[some.block];
      if (offset < block.offset_bytes || offset - block.offset_bytes >= round_up(block.ref.size_bytes, kBlockAlignBytes)) return false;
      return (some.chunks >> ((offset - block.offset_bytes) / kChunkBytes) & 1) != 0;
    });
  };
  for (const int64_t row : wanted) {
    const uint64_t first = begin + static_cast<uint64_t>(row) * row_bytes;
    for (uint64_t at = first; at < first + row_bytes; at += kChunkBytes) CENOTE_CHECK(has(at));
    CENOTE_CHECK(has(first + row_bytes - 1));
  }
  for (const WantedChunks& some : *chunks) CENOTE_CHECK(some.chunks != 0 && (some.chunks & ~load::all_chunks(blocks.at(some.block).ref.size_bytes)) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteReader in(std::string_view(reinterpret_cast<const char*>(data), size));
  if (in.u8() % 2 == 0) {
    inputs(in);
  } else {
    rows(in);
  }
  return 0;
}
