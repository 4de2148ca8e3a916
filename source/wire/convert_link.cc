#include "wire/convert_link.h"

#include "base/status.h"
#include "base/units.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"
#include "wire/convert_member.h"
#include "wire/status.h"

namespace cenote::wire {

void to_proto(const CacheExtent& extent, v1::CacheExtent* proto) {
  proto->set_offset_bytes(extent.offset_bytes);
  proto->set_size_bytes(extent.size_bytes);
  proto->set_word(extent.word);
}

absl::StatusOr<CacheExtent> from_proto(const v1::CacheExtent& proto) {
  if (proto.size_bytes() == 0 || proto.size_bytes() > kBlockBytesMax || proto.offset_bytes() > UINT64_MAX - proto.size_bytes()) {
    return absl::InvalidArgumentError(str_cat("cache extent: ", proto.size_bytes(), " bytes at ", proto.offset_bytes(),
                                              ", a block has 1 to ", kBlockBytesMax));
  }
  return CacheExtent{.offset_bytes = proto.offset_bytes(), .size_bytes = proto.size_bytes(), .word = proto.word()};
}

void to_proto(const WantedChunks& wanted, v1::WantedChunks* proto) {
  proto->set_block(wanted.block);
  proto->set_chunks(wanted.chunks);
}

absl::StatusOr<WantedChunks> from_proto(const v1::WantedChunks& proto) {
  constexpr uint32_t kChunksMask = (1u << (kBlockBytesMax / kChunkBytes)) - 1;
  if (proto.block() >= kBlocksMax || (proto.chunks() & ~kChunksMask) != 0) {
    return absl::InvalidArgumentError(str_cat("wanted chunks: bits ", proto.chunks(), " of block ", proto.block(),
                                              ", a block has ", kBlockBytesMax / kChunkBytes, " chunks"));
  }
  return WantedChunks{.block = proto.block(), .chunks = proto.chunks()};
}

void to_proto(const ExecutorUp& message, v1::ExecutorUp* proto) {
  struct Write {
    v1::ExecutorUp* proto;
    void operator()(const ExecutorReport& report) { to_proto(report, proto->mutable_report()); }
    void operator()(const Acquire& acquire) {
      proto->mutable_acquire()->set_ticket(acquire.ticket);
      proto->mutable_acquire()->set_revision(digest_bytes(acquire.revision));
      proto->mutable_acquire()->set_urgent(acquire.urgent);
    }
    void operator()(const Want& want) {
      proto->mutable_want()->set_revision(digest_bytes(want.revision));
      write_list(want.chunks, proto->mutable_want()->mutable_chunks());
    }
    void operator()(const ReleaseRevision& release) {
      proto->mutable_release()->set_revision(digest_bytes(release.revision));
    }
    void operator()(const AttachBeat& beat) { proto->mutable_beat()->set_next_us(beat.next.us()); }
  };
  std::visit(Write{proto}, message);
}

absl::StatusOr<ExecutorUp> from_proto(const v1::ExecutorUp& proto) {
  switch (proto.kind_case()) {
    case v1::ExecutorUp::kReport: {
      CENOTE_ASSIGN_OR_RETURN(ExecutorReport report, from_proto(proto.report()));
      return ExecutorUp(std::move(report));
    }
    case v1::ExecutorUp::kAcquire: {
      Acquire acquire{.ticket = proto.acquire().ticket(), .urgent = proto.acquire().urgent()};
      CENOTE_ASSIGN_OR_RETURN(acquire.revision, digest_of("acquired revision", proto.acquire().revision()));
      return ExecutorUp(acquire);
    }
    case v1::ExecutorUp::kWant: {
      Want want;
      CENOTE_ASSIGN_OR_RETURN(want.revision, digest_of("wanted revision", proto.want().revision()));
      CENOTE_RETURN_IF_ERROR(read_list("wanted chunks", proto.want().chunks(), kBlocksMax, &want.chunks));
      return ExecutorUp(std::move(want));
    }
    case v1::ExecutorUp::kRelease: {
      CENOTE_ASSIGN_OR_RETURN(const Digest revision, digest_of("released revision", proto.release().revision()));
      return ExecutorUp(ReleaseRevision{revision});
    }
    case v1::ExecutorUp::kBeat: {
      CENOTE_ASSIGN_OR_RETURN(const Duration next, duration_of("beat", proto.beat().next_us()));
      return ExecutorUp(AttachBeat{next});
    }
    case v1::ExecutorUp::KIND_NOT_SET: break;
  }
  return absl::InvalidArgumentError("executor's message of a kind that this version does not know");
}

void to_proto(const ExecutorDown& message, v1::ExecutorDown* proto) {
  struct Write {
    v1::ExecutorDown* proto;
    void operator()(const Attached& attached) {
      proto->mutable_attached()->set_cache_path(attached.cache_path);
      proto->mutable_attached()->set_cache_bytes(attached.cache_bytes);
      proto->mutable_attached()->set_executor_name(attached.executor_name);
    }
    void operator()(const Acquired& acquired) {
      v1::Acquired* out = proto->mutable_acquired();
      out->set_ticket(acquired.ticket);
      to_proto(acquired.status, out->mutable_status());
      write_list(acquired.manifest, out->mutable_manifest());
      write_list(acquired.weights, out->mutable_weights());
      out->set_cached_bytes(acquired.cached_bytes);
      out->set_manifest_bytes(acquired.manifest_bytes);
    }
    void operator()(const Prefetch& prefetch) {
      write_digests(prefetch.revisions, proto->mutable_prefetch()->mutable_revisions());
    }
    void operator()(const EvictRevision& evict) { proto->mutable_evict()->set_revision(digest_bytes(evict.revision)); }
    void operator()(const DrainExecutor&) { proto->mutable_drain(); }
    void operator()(const FetchDone& done) {
      v1::FetchDone* out = proto->mutable_fetched();
      out->set_revision(digest_bytes(done.revision));
      to_proto(done.status, out->mutable_status());
      out->set_network_us(done.network.us());
      out->set_verify_us(done.verify.us());
      out->set_bytes(done.bytes);
      out->set_refetched(done.refetched);
    }
    void operator()(const AttachBeat& beat) { proto->mutable_beat()->set_next_us(beat.next.us()); }
  };
  std::visit(Write{proto}, message);
}

absl::StatusOr<ExecutorDown> from_proto(const v1::ExecutorDown& proto) {
  switch (proto.kind_case()) {
    case v1::ExecutorDown::kAttached: {
      const v1::Attached& in = proto.attached();
      CENOTE_RETURN_IF_ERROR(check_text("cache_path", in.cache_path(), kPathBytesMax));
      CENOTE_RETURN_IF_ERROR(check_text("executor_name", in.executor_name(), kNameBytesMax));
      return ExecutorDown(Attached{in.cache_path(), in.cache_bytes(), in.executor_name()});
    }
    case v1::ExecutorDown::kAcquired: {
      const v1::Acquired& in = proto.acquired();
      Acquired acquired{.ticket = in.ticket(), .status = from_proto(in.status()), .manifest_bytes = in.manifest_bytes(),
                        .cached_bytes = in.cached_bytes()};
      CENOTE_RETURN_IF_ERROR(read_list("manifest extents", in.manifest(), kBlocksMax, &acquired.manifest));
      CENOTE_RETURN_IF_ERROR(read_list("weight extents", in.weights(), kBlocksMax, &acquired.weights));
      return ExecutorDown(std::move(acquired));
    }
    case v1::ExecutorDown::kPrefetch: {
      Prefetch prefetch;
      CENOTE_RETURN_IF_ERROR(read_digests("prefetch", proto.prefetch().revisions(), kRevisionsMax, &prefetch.revisions));
      return ExecutorDown(std::move(prefetch));
    }
    case v1::ExecutorDown::kEvict: {
      CENOTE_ASSIGN_OR_RETURN(const Digest revision, digest_of("evicted revision", proto.evict().revision()));
      return ExecutorDown(EvictRevision{revision});
    }
    case v1::ExecutorDown::kDrain: return ExecutorDown(DrainExecutor{});
    case v1::ExecutorDown::kFetched: {
      const v1::FetchDone& in = proto.fetched();
      FetchDone done{.status = from_proto(in.status()), .bytes = in.bytes(), .refetched = in.refetched()};
      CENOTE_ASSIGN_OR_RETURN(done.revision, digest_of("fetched revision", in.revision()));
      CENOTE_ASSIGN_OR_RETURN(done.network, duration_of("fetch network time", in.network_us()));
      CENOTE_ASSIGN_OR_RETURN(done.verify, duration_of("fetch verify time", in.verify_us()));
      return ExecutorDown(done);
    }
    case v1::ExecutorDown::kBeat: {
      CENOTE_ASSIGN_OR_RETURN(const Duration next, duration_of("beat", proto.beat().next_us()));
      return ExecutorDown(AttachBeat{next});
    }
    case v1::ExecutorDown::KIND_NOT_SET: break;
  }
  return absl::InvalidArgumentError("agent's message of a kind that this version does not know");
}

}  // namespace cenote::wire
