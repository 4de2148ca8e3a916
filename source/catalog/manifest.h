// catalog/manifest.h - what a revision consists of; sealed, content-addressed, never changed.
//
// The revision's *range* is one contiguous stretch of addresses: block i lies at blocks[i].offset_bytes,
// blocks follow each other without gaps after padding to 4 KiB, and a tensor's offset counts from the start
// of the range. A tensor larger than a block spans several, contiguously.
//
// Encoded form (version 1, little-endian; golden file tests/data/manifest_v1.bin):
//   8 bytes  "CENOTEM1"
//   u32      format version (1)
//   u32      number of sections (4)
//   per section: u32 kind, u32 zero, u64 offset from the start, u64 length
//   kind 1   blocks:  u64 n, then n x {32-byte id, u32 size, u32 chunks, chunks x u64 XXH3-64}
//   kind 2   files:   u64 n, then n x {u32 name length, name, u64 size, u32 blocks, blocks as in kind 1}
//   kind 3   tensors and signature: JSON
//   kind 4   graph:   JSON (catalog/graph.h)
// An agent needs kind 1 only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/units.h"
#include "message/record.h"
#include "message/tensor.h"

namespace cenote {

inline constexpr uint64_t kManifestBytesMax = 64 * kMiB;
inline constexpr uint64_t kRangeBytesMax = 1ull << 46;
inline constexpr size_t kTensorsMax = 65536;
inline constexpr size_t kTensorNameBytesMax = 512;
inline constexpr size_t kTensorRankMax = 16;
inline constexpr size_t kValuesMax = 1024;  // Inputs, and outputs, of a signature.
inline constexpr size_t kTreeBytesMax = 1 << 20;
inline constexpr size_t kFilesMax = 256;
inline constexpr size_t kFileNameBytesMax = 255;
inline constexpr size_t kTensorSectionBytesMax = 16 << 20;  // Bounds what its JSON may cost to parse.

struct BlockEntry {
  BlockRef ref;
  uint64_t offset_bytes = 0;         // In the range; derived, not stored.
  std::vector<uint64_t> chunk_sums;  // XXH3-64 of each 256 KiB (the last may be shorter).
};

enum class TensorKind : uint8_t { kParameter = 1, kBuffer = 2, kConstant = 3 };

struct TensorEntry {
  std::string name;  // Fully qualified, "layer1.0.conv1.weight".
  TensorKind kind = TensorKind::kParameter;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset_bytes = 0;  // In the range; 512-byte aligned. Tied tensors share an offset.
  uint64_t size_bytes = 0;
  bool gather_only = false;  // Read only through an embedding lookup, or by a lookup before any other use.
  bool mutated = false;      // The graph writes it: each executor takes a private copy.
};

struct ValueSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // -1: the dynamic batch.
};

struct Signature {
  std::vector<ValueSpec> inputs;
  std::vector<ValueSpec> outputs;
  std::string inputs_tree;  // JSON pytree whose leaves are positions in `inputs` (python/cenote/pytree.py).
  std::string outputs_tree;
};

// A small file that travels with the model: tokenizer, labels, preprocessing.
struct FileEntry {
  std::string name;
  uint64_t size_bytes = 0;
  std::vector<BlockEntry> blocks;  // offset_bytes counts from the start of the file.
};

struct Manifest {
  std::vector<BlockEntry> blocks;
  std::vector<FileEntry> files;
  std::vector<TensorEntry> tensors;
  Signature signature;
  std::string graph;  // JSON, validated by catalog/graph.h.

  uint64_t range_bytes() const;  // End of the last block, padded to 4 KiB.
};

// Everything decode_manifest refuses but what only the encoded form can have. The graph is only bounded here.
absl::Status check_manifest(const Manifest& manifest);

// Requires check_manifest(). Offsets of blocks are not read.
std::string encode_manifest(const Manifest& manifest);

// kInvalidArgument (names what is wrong and where) for anything that is truncated, overlapping, overflowing,
// unaligned, duplicated or over its bound. A manifest returned is safe to use.
absl::StatusOr<Manifest> decode_manifest(std::string_view bytes);

// Only section 1: what an agent needs to fetch. Same checks on what it reads.
absl::StatusOr<std::vector<BlockEntry>> decode_manifest_blocks(std::string_view bytes);

// XXH3-64 of each chunk of a block's bytes.
std::vector<uint64_t> chunk_sums(std::span<const std::byte> block);

}  // namespace cenote
