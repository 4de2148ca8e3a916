#include "load/fetch_queue.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace cenote::load {

// Behind those of its kind that are due at the same time or before.
void FetchQueue::insert_in_order(Job& job) {
  auto place = order_.end();
  if (job.urgent) {
    job.turn = std::max(job.turn, turn_);
    place = std::find_if(order_.begin(), order_.end(), [&](uint64_t id) {
      const Job& other = jobs_.at(id);
      return !other.urgent || other.turn > job.turn;
    });
  }
  order_.insert(place, job.id);
}

// It begins a read of so many bytes.
void FetchQueue::take_turn(Job& job, uint64_t bytes) {
  if (!job.urgent) return;
  turn_ = std::max(turn_, job.turn);
  job.turn = turn_ + bytes;
  std::erase(order_, job.id);
  insert_in_order(job);
}

void FetchQueue::add(FetchJob request) {
  CENOTE_CHECK(!jobs_.contains(request.id));
  Job& job = jobs_[request.id];
  job.id = request.id;
  job.urgent = request.urgent;
  job.result.job = request.id;
  job.ahead = std::move(request.grant_ahead);
  for (FetchBlock& block : request.blocks) {
    CENOTE_CHECK(block.ref.size_bytes > 0 && block.ref.size_bytes <= kBlockBytesMax);
    CENOTE_CHECK(block.chunk_sums.empty() || block.chunk_sums.size() == chunks_of(block.ref.size_bytes));
    if (block.have == all_chunks(block.ref.size_bytes)) continue;
    std::shared_ptr<Work>& work = works_[block.ref.id];
    if (work == nullptr) {
      work = std::make_shared<Work>();
      work->block = std::move(block);
      work->done = work->block.have & work->all();
      (work->block.kept ? work->kept : work->open) = work->all() & ~work->done;
    } else {
      // The same bytes at the same place; only who holds them may be news.
      CENOTE_CHECK(work->block.extent.offset_bytes == block.extent.offset_bytes && work->block.ref == block.ref);
      work->block.replicas = std::move(block.replicas);
      if (work->removed) {
        work->removed = false;
        work->open = work->all() & ~(work->flying | work->landed | work->done);
        for (const uint64_t drained : work->draining_jobs) {
          if (--jobs_.at(drained).draining == 0) finish(drained);
        }
        work->draining_jobs.clear();
      }
    }
    if (!work->jobs.insert(job.id).second) continue;  // The job names it twice.
    job.works.push_back(work);
    ++job.unfinished;
  }
  insert_in_order(job);
  if (job.unfinished == 0) end(job, absl::OkStatus());
}

void FetchQueue::cancel(uint64_t id) {
  const auto job = jobs_.find(id);
  if (job != jobs_.end() && !job->second.ended) end(job->second, absl::CancelledError("nobody waits for it any more"));
}

void FetchQueue::promote(uint64_t id) {
  const auto job = jobs_.find(id);
  if (job == jobs_.end() || job->second.ended || job->second.urgent) return;
  std::erase(order_, id);
  job->second.urgent = true;
  insert_in_order(job->second);
}

void FetchQueue::want(const Digest& block, uint32_t chunks) {
  const auto found = works_.find(block);
  if (found == works_.end()) return;
  Work& work = *found->second;
  work.wanted |= chunks & work.all();
  if (wanted_open(work) && std::find(wanted_.begin(), wanted_.end(), found->second) == wanted_.end()) {
    wanted_.push_back(found->second);
  }
}

std::optional<FetchQueue::Read> FetchQueue::next(const ReplicaView& replicas, Instant now, std::set<std::string>& needed) {
  std::erase_if(wanted_, [&](const std::shared_ptr<Work>& work) { return !wanted_open(*work); });
  for (const std::shared_ptr<Work>& work : wanted_) {
    bool pending = false;
    if (const auto server = choose(*work, replicas, now, needed, pending)) return start(work, *server, now);
  }
  for (const uint64_t id : order_) {
    Job& job = jobs_.at(id);
    auto read = next_of(job, replicas, now, needed);
    if (!read) continue;
    take_turn(job, read->run.size_bytes(read->work->block.ref.size_bytes));  // Reorders: the loop ends here.
    return read;
  }
  return std::nullopt;
}

std::optional<FetchQueue::Read> FetchQueue::next_of(Job& job, const ReplicaView& replicas, Instant now,
                                                    std::set<std::string>& needed) {
  while (job.cursor < job.works.size() && job.works[job.cursor]->open == 0) ++job.cursor;
  bool open = false;
  bool pending = false;
  for (size_t i = job.cursor; i < job.works.size(); ++i) {
    const std::shared_ptr<Work>& work = job.works[i];
    if (work->open == 0) continue;
    open = true;
    if (const auto server = choose(*work, replicas, now, needed, pending)) {
      return start(work, *server, now);
    }
  }
  for (const FetchBlock& ahead : job.ahead) {  // So that their grants come along with the others'.
    Work work;
    work.block.ref = ahead.ref;
    work.block.replicas = ahead.replicas;
    bool ignored = false;
    (void)choose(work, replicas, now, needed, ignored);
  }
  // Only an arrival ends a stall: a dead server is asked again and again, and that is no progress.
  if (open && !pending && !job.stalled_since) job.stalled_since = now;
  return std::nullopt;
}

int FetchQueue::rank(const std::string& server, const std::set<std::string>& distrusted, const ReplicaView& replicas, Instant now) {
  if (distrusted.contains(server) || replicas.avoided(server)) return 2;
  return replicas.slow(server, now) ? 1 : 0;
}

std::optional<std::string> FetchQueue::choose(const Work& work, const ReplicaView& replicas, Instant now,
                                              std::set<std::string>& needed, bool& pending) const {
  for (int turn = 0; turn < kRanks; ++turn) {
    for (const std::string& server : work.block.replicas) {
      if (rank(server, work.distrusted, replicas, now) != turn) continue;
      switch (replicas.availability(server, work.block.ref.id, now)) {
        case Availability::kReady:
          if (!replicas.fresh(server, work.block.ref.id, now)) needed.insert(server);
          return server;
        case Availability::kPending:
          needed.insert(server);
          pending = true;
          return std::nullopt;
        case Availability::kLater:
          break;
      }
    }
  }
  return std::nullopt;
}

std::vector<Digest> FetchQueue::ungranted(const std::string& server, const ReplicaView& replicas, Instant now, size_t limit) const {
  std::vector<Digest> ids;
  std::set<Digest> seen;
  const auto consider = [&](const FetchBlock& block, const std::set<std::string>& distrusted) {
    for (int turn = 0; turn < kRanks; ++turn) {
      for (const std::string& replica : block.replicas) {
        if (rank(replica, distrusted, replicas, now) != turn) continue;
        if (replicas.availability(replica, block.ref.id, now) == Availability::kLater) continue;
        if (replica == server && !replicas.fresh(server, block.ref.id, now) && seen.insert(block.ref.id).second) {
          ids.push_back(block.ref.id);
        }
        return;
      }
    }
  };
  for (const auto& work : wanted_) {
    if (ids.size() < limit) consider(work->block, work->distrusted);
  }
  for (const uint64_t id : order_) {
    const Job& job = jobs_.at(id);
    for (size_t i = job.cursor; i < job.works.size() && ids.size() < limit; ++i) {
      if (job.works[i]->open != 0) consider(job.works[i]->block, job.works[i]->distrusted);
    }
    for (size_t i = 0; i < job.ahead.size() && ids.size() < limit; ++i) consider(job.ahead[i], {});
  }
  return ids;
}

FetchQueue::Read FetchQueue::start(const std::shared_ptr<Work>& work, const std::string& server, Instant now) {
  const auto run = next_read(work->open, work->wanted, limits_.read_bytes);
  CENOTE_CHECK(run.has_value() && (run->mask() & ~work->open) == 0);
  work->open &= ~run->mask();
  work->flying |= run->mask();
  for (const uint64_t id : work->jobs) {
    Job& job = jobs_.at(id);
    if (!job.first_read) job.first_read = now;
  }
  return {work, *run, server};
}

uint32_t FetchQueue::arrived(const Read& read, Instant now) {
  Work& work = *read.work;
  CENOTE_CHECK((work.flying & read.run.mask()) == read.run.mask());
  work.flying &= ~read.run.mask();
  if (work.removed) {
    quiet(read.work);
    return 0;
  }
  work.landed |= read.run.mask();
  for (const uint64_t id : work.jobs) {
    Job& job = jobs_.at(id);
    job.last_byte = now;
    job.stalled_since.reset();
    job.result.bytes += read.run.size_bytes(work.block.ref.size_bytes);
  }
  if (!work.block.chunk_sums.empty()) return read.run.mask();
  return work.landed == work.all() ? work.all() : 0;
}

void FetchQueue::checked(const Read& read, uint32_t checked, uint32_t good, Duration verify) {
  Work& work = *read.work;
  CENOTE_CHECK((work.landed & checked) == checked && (good & ~checked) == 0);
  work.landed &= ~checked;
  work.done |= good;
  const uint32_t bad = checked & ~good;
  for (const uint64_t id : work.jobs) {
    Job& job = jobs_.at(id);
    job.result.verify = job.result.verify + verify;
    job.result.refetched += static_cast<uint64_t>(__builtin_popcount(bad));
  }
  if (bad != 0) {
    ++work.corrupt;
    work.distrusted.insert(read.server);
    reopen(work, bad);
    if (work.corrupt > limits_.corrupt_max) {
      const absl::Status status = absl::DataLossError(
          str_cat("block ", work.block.ref.id.short_hex(), " came corrupt ", work.corrupt, " times, last from ", read.server, "; replicas: ",
                  work.block.replicas.size()));
      for (const uint64_t id : std::set<uint64_t>(work.jobs)) end(jobs_.at(id), status);
    }
    return;
  }
  if (work.done == work.all()) complete(read.work);
}

// `work` by value: the table's own goes.
void FetchQueue::complete(std::shared_ptr<Work> work) {
  works_.erase(work->block.ref.id);
  for (const uint64_t id : std::set<uint64_t>(work->jobs)) {
    Job& job = jobs_.at(id);
    if (--job.unfinished == 0) end(job, absl::OkStatus());
  }
}

std::shared_ptr<FetchQueue::Work> FetchQueue::next_kept() {
  for (const uint64_t id : order_) {
    Job& job = jobs_.at(id);
    while (job.kept_cursor < job.works.size() && job.works[job.kept_cursor]->kept == 0) ++job.kept_cursor;
    if (job.kept_cursor == job.works.size()) continue;
    const std::shared_ptr<Work>& work = job.works[job.kept_cursor];
    work->landed |= std::exchange(work->kept, 0);
    return work;
  }
  return nullptr;
}

void FetchQueue::kept_checked(const std::shared_ptr<Work>& work, uint32_t checked, uint32_t good, Duration verify) {
  CENOTE_CHECK((work->landed & checked) == checked && (good & ~checked) == 0);
  work->landed &= ~checked;
  work->done |= good;
  const uint32_t bad = checked & ~good;
  for (const uint64_t id : work->jobs) {
    Job& job = jobs_.at(id);
    job.result.verify = job.result.verify + verify;
    job.result.refetched += static_cast<uint64_t>(__builtin_popcount(bad));
  }
  if (bad != 0) reopen(*work, bad);
  if (work->done == work->all()) complete(work);
}

void FetchQueue::failed(const Read& read) {
  Work& work = *read.work;
  CENOTE_CHECK((work.flying & read.run.mask()) == read.run.mask());
  work.flying &= ~read.run.mask();
  if (work.removed) {
    quiet(read.work);
  } else {
    reopen(work, read.run.mask());
  }
}

void FetchQueue::reopen(Work& work, uint32_t chunks) {
  work.open |= chunks;
  for (const uint64_t id : work.jobs) jobs_.at(id).cursor = 0;
  if (wanted_open(work)) want(work.block.ref.id, 0);
}

// A removed work lost a flying read: when it was the last, whoever waited for that can go.
void FetchQueue::quiet(const std::shared_ptr<Work>& work) {
  if (work->flying != 0) return;
  works_.erase(work->block.ref.id);
  for (const uint64_t id : work->draining_jobs) {
    if (--jobs_.at(id).draining == 0) finish(id);
  }
  work->draining_jobs.clear();
}

void FetchQueue::end(Job& job, absl::Status status) {
  CENOTE_CHECK(!job.ended);
  job.ended = true;
  job.result.status = std::move(status);
  std::erase(order_, job.id);
  for (const std::shared_ptr<Work>& work : job.works) {
    work->jobs.erase(job.id);
    if (work->done == work->all()) continue;
    job.result.missing.push_back(work->block.ref.id);
    if (!work->jobs.empty()) continue;  // Others go on with it.
    work->removed = true;
    work->kept = 0;
    work->open = 0;
    work->landed = 0;
    given_up_.push_back(work->block.extent);
    if (work->flying == 0) {
      works_.erase(work->block.ref.id);
    } else {
      work->draining_jobs.insert(job.id);
      ++job.draining;
    }
  }
  if (job.first_read) job.result.network = std::max(Duration{}, job.last_byte - *job.first_read);
  if (job.draining == 0) finish(job.id);
}

void FetchQueue::finish(uint64_t id) {
  const auto job = jobs_.find(id);
  finished_.push_back(std::move(job->second.result));
  jobs_.erase(job);
}

Instant FetchQueue::expire(Instant now) {
  Instant next = Instant::infinite_future();
  for (const uint64_t id : std::vector<uint64_t>(order_)) {
    Job& job = jobs_.at(id);
    if (!job.stalled_since) continue;
    const Instant due = *job.stalled_since + limits_.stall_max;
    if (now < due) {
      next = std::min(next, due);
      continue;
    }
    std::set<std::string> servers;
    size_t open = 0;
    for (const auto& work : job.works) {
      if (work->open == 0) continue;
      ++open;
      servers.insert(work->block.replicas.begin(), work->block.replicas.end());
    }
    std::string names;
    for (const std::string& server : servers) str_append(&names, names.empty() ? "" : ", ", server);
    end(job, absl::UnavailableError(str_cat("no memory server could be read for ", limits_.stall_max.ms(), " ms; ", open,
                                            " blocks are missing, held by ", names.empty() ? "nobody" : names)));
  }
  return next;
}

std::vector<FetchResult> FetchQueue::take_finished() { return std::exchange(finished_, {}); }
std::vector<CacheExtent> FetchQueue::take_given_up() { return std::exchange(given_up_, {}); }

}  // namespace cenote::load
