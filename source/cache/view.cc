#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/stat.h>

#include "base/status.h"
#include "base/units.h"
#include "cache/futex.h"
#include "cache/view_shared.h"

namespace cenote::cache {
namespace {

namespace ipc = boost::interprocess;

absl::Status check_header(const Header& header, const std::string& path, uint64_t file_bytes) {
  if (header.magic != kCacheMagic || header.version != kCacheVersion) {
    return absl::FailedPreconditionError(str_cat(path, " is not a Cenote cache of version ", kCacheVersion, " (magic ",
                                                 absl::Hex(header.magic), ", version ", header.version,
                                                 "); run the agent and its executors from one build"));
  }
  const bool sane = header.words_offset == kWordsOffset && header.word_count <= (1u << 28) &&
                    header.data_offset == data_offset_of(header.word_count) && header.data_bytes <= file_bytes &&
                    header.data_offset <= file_bytes - header.data_bytes;
  if (!sane) return absl::FailedPreconditionError(str_cat(path, " has a cache header that contradicts itself; restart the agent"));
  return absl::OkStatus();
}

}  // namespace

CacheView::~CacheView() = default;

absl::StatusOr<std::unique_ptr<CacheView>> CacheView::open(const std::string& path, uint64_t file_bytes) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return errno_status(errno, str_cat("open the cache ", path));
  if (static_cast<uint64_t>(file.st_size) != file_bytes || file_bytes < kWordsOffset) {
    return absl::FailedPreconditionError(
        str_cat("the cache ", path, " is ", file.st_size, " bytes long, the agent said ", file_bytes, "; restart the agent"));
  }
  std::unique_ptr<CacheView> view(new CacheView);
  try {
    view->shared_ = std::make_unique<Shared>();
    // Open for writing because of the waiters' page alone; words and data are mapped read-only.
    view->shared_->file = ipc::file_mapping(path.c_str(), ipc::read_write);
    const ipc::mapped_region header(view->shared_->file, ipc::read_only, 0, sizeof(Header));
    const Header seen = *static_cast<const Header*>(header.get_address());
    CENOTE_RETURN_IF_ERROR(check_header(seen, path, file_bytes));
    view->word_count_ = seen.word_count;
    view->data_bytes_ = seen.data_bytes;
    view->data_offset_ = seen.data_offset;
    view->shared_->waiters = ipc::mapped_region(view->shared_->file, ipc::read_write, kWaitersOffset, sizeof(Waiters));
    view->shared_->words = ipc::mapped_region(view->shared_->file, ipc::read_only, kWordsOffset, seen.word_count * sizeof(Word));
  } catch (const ipc::interprocess_exception& e) {
    return absl::PermissionDeniedError(str_cat("cannot map the cache ", path, ": ", e.what()));
  }
  view->waiters_ = static_cast<Waiters*>(view->shared_->waiters.get_address());
  view->words_ = static_cast<const Word*>(view->shared_->words.get_address());
  return view;
}

absl::Status CacheView::check(const CacheExtent& extent) const {
  if (extent.size_bytes == 0 || extent.size_bytes > kBlockBytesMax || extent.word >= word_count_ ||
      extent.offset_bytes % kBlockAlignBytes != 0 || extent.offset_bytes > data_bytes_ ||
      round_up(extent.size_bytes, kBlockAlignBytes) > data_bytes_ - extent.offset_bytes) {
    return absl::InvalidArgumentError(str_cat("extent of ", extent.size_bytes, " bytes at ", extent.offset_bytes, ", word ",
                                              extent.word, " does not lie in a cache of ", data_bytes_, " bytes and ", word_count_,
                                              " words"));
  }
  return absl::OkStatus();
}

uint32_t CacheView::word(uint32_t index) const {
  CENOTE_CHECK(index < word_count_);
  return words_[index].load(std::memory_order_acquire);
}

bool CacheView::arrived(const CacheExtent& extent) const {
  const uint32_t all = (1u << ((extent.size_bytes + kChunkBytes - 1) / kChunkBytes)) - 1;
  return (word(extent.word) & all) == all;
}

absl::Status CacheView::wait(const CacheExtent& extent, uint32_t mask, Instant deadline) {
  CENOTE_CHECK(extent.word < word_count_ && mask <= kChunkBits);
  const Word& word = words_[extent.word];
  uint32_t seen = word.load(std::memory_order_acquire);
  if ((seen & mask) == mask) return absl::OkStatus();

  const uint32_t all = (1u << ((extent.size_bytes + kChunkBytes - 1) / kChunkBytes)) - 1;
  Waiters::Stripe& stripe = waiters_->stripes[extent.word % Waiters::kStripes];
  std::atomic<uint32_t>& counter = mask == all ? stripe.whole : stripe.any;
  counter.fetch_add(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // Pairs with the one in HostCache::publish.
  const uint32_t generation = seen & kGenerationMask;
  absl::Status status;
  for (;;) {
    seen = word.load(std::memory_order_acquire);
    if ((seen & kGenerationMask) != generation || !(seen & kLiveBit)) {
      status = absl::UnavailableError(str_cat("cache slot ", extent.word, " was taken away while it was waited for; acquire again"));
      break;
    }
    if ((seen & mask) == mask) break;
    if (seen & kFailedBit) {
      status = absl::UnavailableError(str_cat("the agent gave up fetching the block of cache slot ", extent.word, "; acquire again"));
      break;
    }
    if (lost()) {
      status = absl::UnavailableError("the agent is gone");
      break;
    }
    const Instant now = monotonic_now();
    if (now >= deadline) {
      status = absl::DeadlineExceededError(str_cat("chunks ", absl::Hex(mask & ~seen), " of cache slot ", extent.word,
                                                   " had not arrived by the deadline"));
      break;
    }
    futex_wait(word, seen, std::min(kLivenessInterval, deadline - now));
  }
  counter.fetch_sub(1, std::memory_order_seq_cst);
  return status;
}

}  // namespace cenote::cache
