#include "cache/mapping.h"

#include <cerrno>
#include <sys/mman.h>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "cache/view_shared.h"

namespace cenote::cache {
namespace {

struct Piece {
  uint64_t offset_bytes;  // In the cache's data.
  uint64_t size_bytes;
};

// Extents that follow each other in the cache and in the range become one piece: fewer mappings, longer huge pages.
std::vector<Piece> merge(std::span<const CacheExtent> extents) {
  std::vector<Piece> pieces;
  for (const CacheExtent& extent : extents) {
    const uint64_t padded = round_up(extent.size_bytes, kBlockAlignBytes);
    if (!pieces.empty() && pieces.back().offset_bytes + pieces.back().size_bytes == extent.offset_bytes) {
      pieces.back().size_bytes += padded;
    } else {
      pieces.push_back({extent.offset_bytes, padded});
    }
  }
  return pieces;
}

}  // namespace

absl::StatusOr<Mapping> Mapping::map(const CacheView& view, std::span<const CacheExtent> extents) {
  uint64_t size = 0;
  for (const CacheExtent& extent : extents) {
    CENOTE_RETURN_IF_ERROR(view.check(extent));
    size += round_up(extent.size_bytes, kBlockAlignBytes);
  }
  Mapping mapping;
  if (size == 0) return mapping;
  const std::vector<Piece> pieces = merge(extents);

  mapping.reserved_bytes_ = size + kHugePageBytes;
  void* reserved = mmap(nullptr, mapping.reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return absl::ResourceExhaustedError(str_cat("cannot reserve ", format_bytes(mapping.reserved_bytes_), " of addresses"));
  }
  mapping.reserved_ = static_cast<std::byte*>(reserved);
  // A huge page is mapped whole only where address and file offset agree modulo 2 MiB; make them agree for the first piece.
  const uint64_t want = (view.data_offset_ + pieces.front().offset_bytes) % kHugePageBytes;
  const uint64_t have = reinterpret_cast<uint64_t>(reserved) % kHugePageBytes;
  mapping.address_ = mapping.reserved_ + (want + kHugePageBytes - have) % kHugePageBytes;
  mapping.size_bytes_ = size;

  const int fd = view.shared_->file.get_mapping_handle().handle;
  std::byte* at = mapping.address_;
  for (const Piece& piece : pieces) {
    void* mapped = mmap(at, piece.size_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                        static_cast<off_t>(view.data_offset_ + piece.offset_bytes));
    if (mapped == MAP_FAILED) {
      return absl::ResourceExhaustedError(str_cat("cannot map piece ", mapping.pieces_, " of ", pieces.size(), " (",
                                                  format_bytes(piece.size_bytes), "): errno ", errno,
                                                  "; raise vm.max_map_count if it is reached"));
    }
    at += piece.size_bytes;
    ++mapping.pieces_;
  }
  return mapping;
}

Mapping::Mapping(Mapping&& other) noexcept { *this = std::move(other); }

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(reserved_, other.reserved_);
  std::swap(reserved_bytes_, other.reserved_bytes_);
  std::swap(pieces_, other.pieces_);
  return *this;
}

Mapping::~Mapping() {
  if (reserved_ != nullptr) munmap(reserved_, reserved_bytes_);
}

void Mapping::populate(uint64_t begin, uint64_t end) const {
  CENOTE_CHECK(begin <= end && end <= size_bytes_);
  begin = begin / kBlockAlignBytes * kBlockAlignBytes;
  end = round_up(end, kBlockAlignBytes);
#ifdef MADV_POPULATE_READ
  if (begin < end) madvise(address_ + begin, end - begin, MADV_POPULATE_READ);
#endif
}

}  // namespace cenote::cache
