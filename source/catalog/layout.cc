#include "catalog/layout.h"

#include <algorithm>
#include <map>

#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

absl::StatusOr<uint64_t> tensor_bytes(const LayoutTensor& tensor) {
  const absl::StatusOr<int64_t> count = element_count(tensor.shape);
  if (!count.ok()) return annotate(count.status(), str_cat("tensor '", tensor.name, "'"));
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(*count), dtype_bytes(tensor.dtype), &bytes) ||
      bytes > kRangeBytesMax) {
    return absl::InvalidArgumentError(str_cat("tensor '", tensor.name,
                                              "': ", describe(tensor.dtype, tensor.shape), " is larger than ",
                                              format_bytes(kRangeBytesMax)));
  }
  return bytes;
}

// Places storages one after another and cuts blocks.
class Placer {
 public:
  uint64_t place(uint64_t size, bool boundary) {
    uint64_t offset = round_up(end_, kTensorAlignBytes);
    if (size == 0) return offset_of_empty();
    const bool large = size >= kBlockStartTensorBytes;
    if (boundary || large || offset + size > start_ + kBlockBytesMax) {
      close();
      offset = start_;
    }
    end_ = offset + size;
    // A large tensor fills whole blocks; what is left of it begins the next, which others may join.
    while (end_ - start_ > kBlockBytesMax) {
      blocks_.push_back({start_, kBlockBytesMax});
      start_ += kBlockBytesMax;
    }
    return offset;
  }

  std::vector<BlockSpan> finish() {
    close();
    return std::move(blocks_);
  }
  uint64_t end() const { return end_; }

 private:
  // An empty tensor needs an aligned place in the range, not bytes; the end of the last block is one.
  uint64_t offset_of_empty() const { return start_; }

  void close() {
    if (end_ > start_) blocks_.push_back({start_, round_up(end_ - start_, kBlockAlignBytes)});
    if (!blocks_.empty()) start_ = blocks_.back().offset_bytes + blocks_.back().size_bytes;
    end_ = start_;
  }

  std::vector<BlockSpan> blocks_;
  uint64_t start_ = 0;  // Of the open block.
  uint64_t end_ = 0;    // Of what is placed.
};

absl::Status check_tie(const LayoutTensor& tensor, const LayoutTensor& partner, uint64_t bytes,
                       uint64_t partner_bytes) {
  if (!partner.tied_to.empty()) {
    return absl::InvalidArgumentError(str_cat("tensor '", tensor.name, "' is tied to '", partner.name,
                                              "', which is tied itself: name '", partner.tied_to, "'"));
  }
  if (bytes != partner_bytes) {
    return absl::InvalidArgumentError(str_cat("tensor '", tensor.name, "' has ", bytes,
                                              " bytes, but is tied to '", partner.name, "' with ",
                                              partner_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Layout> lay_out(std::span<const LayoutTensor> tensors) {
  if (tensors.size() > kTensorsMax) {
    return absl::InvalidArgumentError(
        str_cat(tensors.size(), " tensors, a revision has at most ", kTensorsMax));
  }
  std::map<std::string_view, size_t> index;
  std::vector<uint64_t> sizes(tensors.size());
  uint64_t total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!index.emplace(tensors[i].name, i).second) {
      return absl::InvalidArgumentError(str_cat("tensor '", tensors[i].name, "' is given twice"));
    }
    CENOTE_ASSIGN_OR_RETURN(sizes[i], tensor_bytes(tensors[i]));
    total +=
        sizes[i] + kBlockBytesMax;  // With more padding than there can be; no overflow: 65536 x 2^46 < 2^63.
    if (sizes[i] > kRangeBytesMax || total > kRangeBytesMax) {
      return absl::InvalidArgumentError(
          str_cat("the tensors up to '", tensors[i].name, "' need more than ", format_bytes(kRangeBytesMax)));
    }
  }
  std::vector<size_t> partner(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    partner[i] = i;
    if (tensors[i].tied_to.empty()) continue;
    const auto found = index.find(tensors[i].tied_to);
    if (found == index.end() || found->second == i) {
      return absl::InvalidArgumentError(str_cat("tensor '", tensors[i].name, "' is tied to '",
                                                tensors[i].tied_to, "', which is not another tensor"));
    }
    partner[i] = found->second;
    CENOTE_RETURN_IF_ERROR(check_tie(tensors[i], tensors[partner[i]], sizes[i], sizes[partner[i]]));
  }

  Layout layout;
  layout.tensors.resize(tensors.size());
  Placer placer;
  const std::string* layer = nullptr;
  for (const bool tables : {false, true}) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (partner[i] != i || tensors[i].gather_only != tables) continue;
      const bool boundary = tables || layer == nullptr || *layer != tensors[i].layer;
      layout.tensors[i].offset_bytes = placer.place(sizes[i], boundary);
      if (sizes[i] > 0) layer = &tensors[i].layer;
    }
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const LayoutTensor& tensor = tensors[i];
    layout.tensors[i] = {.name = tensor.name,
                         .kind = tensor.kind,
                         .dtype = tensor.dtype,
                         .shape = tensor.shape,
                         .offset_bytes = layout.tensors[partner[i]].offset_bytes,
                         .size_bytes = sizes[i],
                         .gather_only = tensor.gather_only,
                         .mutated = tensor.mutated};
  }
  layout.blocks = placer.finish();
  if (!layout.blocks.empty())
    layout.range_bytes = layout.blocks.back().offset_bytes + layout.blocks.back().size_bytes;
  return layout;
}

}  // namespace cenote
