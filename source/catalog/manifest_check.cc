// What makes a manifest safe to use, whoever made it.
#include <algorithm>
#include <set>

#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"
#include "catalog/manifest_impl.h"

namespace cenote {
namespace {

absl::Status bad(std::string_view what) {
  return absl::InvalidArgumentError(str_cat("manifest: ", what));
}

// A name for a message: what may be shown of it.
std::string shown(std::string_view name) {
  if (!plain_utf8(name)) return "(not text)";
  return name.size() > 80 ? str_cat(name.substr(0, 40), "...") : std::string(name);
}

absl::Status check_name(std::string_view name, size_t size_max, std::string_view what) {
  if (name.empty() || name.size() > size_max)
    return bad(str_cat(what, " has a name of ", name.size(), " bytes, 1 to ", size_max));
  if (!plain_utf8(name)) return bad(str_cat(what, " has a name that is not plain text"));
  return absl::OkStatus();
}

// For each block, where the bytes that begin in it end without a hole: padding after a block is one.
std::vector<uint64_t> run_ends(const std::vector<BlockEntry>& blocks) {
  std::vector<uint64_t> ends(blocks.size());
  for (size_t i = blocks.size(); i-- > 0;) {
    const bool joins = blocks[i].ref.size_bytes % kBlockAlignBytes == 0 && i + 1 < blocks.size();
    ends[i] = joins ? ends[i + 1] : blocks[i].offset_bytes + blocks[i].ref.size_bytes;
  }
  return ends;
}

struct TensorCheck {
  const Manifest& manifest;
  std::vector<uint64_t> offsets;  // Of blocks, as derived.
  std::vector<uint64_t> ends;
  uint64_t range = 0;

  absl::Status shape(const TensorEntry& tensor, std::string_view what) const {
    if (tensor.shape.size() > kTensorRankMax)
      return bad(str_cat(what, " has ", tensor.shape.size(), " dimensions, at most ", kTensorRankMax));
    if (!dtype_valid(static_cast<int>(tensor.dtype)))
      return bad(str_cat(what, " has dtype ", static_cast<int>(tensor.dtype), ", which there is not"));
    const absl::StatusOr<int64_t> count = element_count(tensor.shape);
    if (!count.ok()) return bad(str_cat(what, ": ", to_std(count.status().message())));
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(*count), dtype_bytes(tensor.dtype), &bytes) ||
        bytes != tensor.size_bytes) {
      return bad(str_cat(what, ": ", describe(tensor.dtype, tensor.shape), " does not have ",
                         tensor.size_bytes, " bytes"));
    }
    return absl::OkStatus();
  }

  absl::Status place(const TensorEntry& tensor, std::string_view what) const {
    if (tensor.offset_bytes % kTensorAlignBytes != 0)
      return bad(str_cat(what, " lies at ", tensor.offset_bytes, ", not a multiple of ", kTensorAlignBytes));
    if (tensor.offset_bytes > range || tensor.size_bytes > range - tensor.offset_bytes) {
      return bad(str_cat(what, " lies at ", tensor.offset_bytes, " with ", tensor.size_bytes,
                         " bytes, the range has ", range));
    }
    if (tensor.size_bytes == 0) return absl::OkStatus();
    const size_t block =
        std::upper_bound(offsets.begin(), offsets.end(), tensor.offset_bytes) - offsets.begin() - 1;
    if (tensor.offset_bytes + tensor.size_bytes > ends[block]) {
      return bad(str_cat(what, " ends at ", tensor.offset_bytes + tensor.size_bytes,
                         ", the blocks it begins in end at ", ends[block]));
    }
    return absl::OkStatus();
  }

  // Two tensors share all their bytes (tied) or none.
  absl::Status overlaps() const {
    std::vector<const TensorEntry*> order;
    for (const TensorEntry& tensor : manifest.tensors) {
      if (tensor.size_bytes > 0) order.push_back(&tensor);
    }
    std::sort(order.begin(), order.end(), [](const TensorEntry* a, const TensorEntry* b) {
      return std::tie(a->offset_bytes, a->size_bytes, a->name) <
             std::tie(b->offset_bytes, b->size_bytes, b->name);
    });
    for (size_t i = 1; i < order.size(); ++i) {
      const TensorEntry &a = *order[i - 1], &b = *order[i];
      const bool tied = a.offset_bytes == b.offset_bytes && a.size_bytes == b.size_bytes;
      if (!tied && a.offset_bytes + a.size_bytes > b.offset_bytes) {
        return bad(
            str_cat("tensors '", shown(a.name), "' and '", shown(b.name), "' overlap at ", b.offset_bytes));
      }
    }
    return absl::OkStatus();
  }

  absl::Status all() const {
    if (manifest.tensors.size() > kTensorsMax)
      return bad(str_cat(manifest.tensors.size(), " tensors, at most ", kTensorsMax));
    std::set<std::string_view> names;
    for (const TensorEntry& tensor : manifest.tensors) {
      CENOTE_RETURN_IF_ERROR(check_name(tensor.name, kTensorNameBytesMax, "a tensor"));
      const std::string what = str_cat("tensor '", shown(tensor.name), "'");
      if (!names.insert(tensor.name).second) return bad(str_cat(what, " is there twice"));
      const int kind = static_cast<int>(tensor.kind);
      if (kind < 1 || kind > 3) return bad(str_cat(what, " has kind ", kind, ", 1 to 3"));
      CENOTE_RETURN_IF_ERROR(shape(tensor, what));
      CENOTE_RETURN_IF_ERROR(place(tensor, what));
    }
    return overlaps();
  }
};

absl::Status check_values(const std::vector<ValueSpec>& values, std::string_view what) {
  if (values.size() > kValuesMax) return bad(str_cat(values.size(), " ", what, "s, at most ", kValuesMax));
  std::set<std::string_view> names;
  for (const ValueSpec& value : values) {
    CENOTE_RETURN_IF_ERROR(check_name(value.name, kTensorNameBytesMax, what));
    if (!names.insert(value.name).second)
      return bad(str_cat(what, " '", shown(value.name), "' is there twice"));
    if (!dtype_valid(static_cast<int>(value.dtype)))
      return bad(str_cat(what, " '", shown(value.name), "' has a dtype that there is not"));
    if (value.shape.size() > kTensorRankMax)
      return bad(str_cat(what, " '", shown(value.name), "' has ", value.shape.size(), " dimensions, at most ",
                         kTensorRankMax));
    for (int64_t dim : value.shape) {
      if (dim < -1) return bad(str_cat(what, " '", shown(value.name), "' has a dimension of ", dim));
    }
  }
  return absl::OkStatus();
}

absl::Status check_files(const std::vector<FileEntry>& files) {
  if (files.size() > kFilesMax) return bad(str_cat(files.size(), " files, at most ", kFilesMax));
  std::set<std::string_view> names;
  for (const FileEntry& file : files) {
    CENOTE_RETURN_IF_ERROR(check_name(file.name, kFileNameBytesMax, "a file"));
    // Whoever writes these files to a directory must stay in it.
    if (file.name.front() == '.' || file.name.find_first_of("/\\") != std::string::npos) {
      return bad(
          str_cat("file '", shown(file.name), "': a name without '/' or '\\' that does not begin with '.'"));
    }
    if (!names.insert(file.name).second) return bad(str_cat("file '", shown(file.name), "' is there twice"));
    uint64_t sum = 0;
    for (const BlockEntry& block : file.blocks) sum += block.ref.size_bytes;
    if (sum != file.size_bytes)
      return bad(str_cat("file '", shown(file.name), "' has ", file.size_bytes, " bytes, its blocks ", sum));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status check_blocks(std::vector<BlockEntry>& blocks, bool in_range, std::string_view what) {
  uint64_t offset = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    BlockEntry& block = blocks[i];
    const uint64_t size = block.ref.size_bytes;
    if (size == 0 || size > kBlockBytesMax)
      return bad(str_cat(what, ": block ", i, " has ", size, " bytes, 1 to ", kBlockBytesMax));
    if (block.chunk_sums.size() != round_up(size, kChunkBytes) / kChunkBytes) {
      return bad(str_cat(what, ": block ", i, " of ", size, " bytes has ", block.chunk_sums.size(),
                         " chunk sums, expected ", round_up(size, kChunkBytes) / kChunkBytes));
    }
    block.offset_bytes = offset;
    offset += in_range ? round_up(size, kBlockAlignBytes) : size;
    if (offset > kRangeBytesMax) return bad(str_cat(what, ": more than ", kRangeBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status check_manifest(const Manifest& manifest) {
  std::vector<BlockEntry> blocks = manifest.blocks;
  CENOTE_RETURN_IF_ERROR(check_blocks(blocks, true, "blocks"));
  for (const FileEntry& file : manifest.files) {
    std::vector<BlockEntry> file_blocks = file.blocks;
    CENOTE_RETURN_IF_ERROR(check_blocks(file_blocks, false, "files"));
  }
  CENOTE_RETURN_IF_ERROR(check_files(manifest.files));
  TensorCheck tensors{.manifest = manifest, .offsets = {}, .ends = run_ends(blocks)};
  for (const BlockEntry& block : blocks) tensors.offsets.push_back(block.offset_bytes);
  if (!blocks.empty())
    tensors.range = blocks.back().offset_bytes + round_up(blocks.back().ref.size_bytes, kBlockAlignBytes);
  CENOTE_RETURN_IF_ERROR(tensors.all());
  CENOTE_RETURN_IF_ERROR(check_values(manifest.signature.inputs, "input"));
  CENOTE_RETURN_IF_ERROR(check_values(manifest.signature.outputs, "output"));
  for (const std::string* tree : {&manifest.signature.inputs_tree, &manifest.signature.outputs_tree}) {
    if (tree->size() > kTreeBytesMax || !plain_utf8(*tree))
      return bad(
          str_cat("a signature tree of ", tree->size(), " bytes, plain text of at most ", kTreeBytesMax));
  }
  if (manifest.graph.size() > kManifestBytesMax)
    return bad(str_cat("a graph of ", manifest.graph.size(), " bytes, at most ", kManifestBytesMax));
  return absl::OkStatus();
}

}  // namespace cenote
