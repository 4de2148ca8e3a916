// What the catalogue keeps beside models: evictions, labels, answers given, and which catalogue it is.
#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "catalog/catalogue.h"

namespace cenote {

absl::Status Catalogue::apply_one(const PrefetchSet& event) {
  if (!revisions_.contains(event.revision))
    return absl::NotFoundError(str_cat("there is no revision ", event.revision.short_hex()));
  if (event.wanted) {
    evicted_.erase(event.revision);
  } else {
    evicted_.insert(event.revision);
  }
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const OperationDone& event) {
  if (operation(event.id) != nullptr) return absl::AlreadyExistsError("the operation's answer is known");
  operations_.push_back(event);
  operation_digests_ += event.revisions.size();
  while (operations_.size() > kOperationsKept ||
         (operation_digests_ > kOperationDigestsKept && operations_.size() > 1)) {
    operation_digests_ -= operations_.front().revisions.size();
    operations_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const LineageSet& event) {
  lineage_ = event.lineage;
  held_because_ = event.held_because;
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const RevisionLabelled& event) {
  const auto revision = revisions_.find(event.revision);
  if (revision == revisions_.end() || !revision->second.names.contains(event.name)) {
    return absl::NotFoundError(
        str_cat("there is no revision ", event.name, "@", event.revision.short_hex()));
  }
  if (revision->second.labels.contains(event.name)) {
    return absl::AlreadyExistsError(
        str_cat(event.name, "@", event.revision.short_hex(), " has a label"));
  }
  const auto known = blocks_.find(event.label.id);
  if (known != blocks_.end() && known->second.size_bytes != event.label.size_bytes) {
    return absl::InvalidArgumentError(str_cat("label ", event.label.id.short_hex(), " has ",
                                              event.label.size_bytes, " bytes, known with ",
                                              known->second.size_bytes));
  }
  need(event.label);
  revision->second.labels.emplace(event.name, event.label);
  return absl::OkStatus();
}

const OperationDone* Catalogue::operation(std::string_view id) const {
  const auto found = std::find_if(operations_.rbegin(), operations_.rend(),
                                  [&](const OperationDone& done) { return done.id == id; });
  return found == operations_.rend() ? nullptr : &*found;
}

}  // namespace cenote
