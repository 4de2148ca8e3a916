#include "catalog/catalogue_plans.h"

#include <set>

#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

absl::Status no_model(const Catalogue& catalogue, std::string_view name) {
  const std::string text =
      str_cat(name, "@", std::string(kDigestPrefixMin, '0'));  // Any revision: resolve() says what there is.
  return catalogue.resolve(text).status();
}

bool has_name(const Catalogue& catalogue, std::string_view name) {
  for (const auto& [digest, entry] : catalogue.revisions()) {
    if (entry.names.contains(std::string(name))) return true;
  }
  return false;
}

std::vector<CatalogueEvent> remove_name(const Catalogue& catalogue, const std::string& name) {
  std::vector<CatalogueEvent> events;
  if (const auto tags = catalogue.tags().find(name); tags != catalogue.tags().end()) {
    for (const auto& [tag, state] : tags->second) events.emplace_back(TagRemoved{name, tag});
  }
  for (const auto& [digest, entry] : catalogue.revisions()) {
    if (entry.names.contains(name)) events.emplace_back(RevisionRemoved{name, digest});
  }
  return events;
}

}  // namespace

absl::StatusOr<std::vector<CatalogueEvent>> plan_deploy(const Catalogue& catalogue,
                                                        const RevisionRecord& record, std::string_view tag,
                                                        bool update) {
  CENOTE_RETURN_IF_ERROR(check_tag(tag));
  RevisionSealed sealed{record};
  sealed.record.label = {};
  CENOTE_RETURN_IF_ERROR(check_event(sealed));
  const auto known = catalogue.revisions().find(record.digest);
  const bool owned = known != catalogue.revisions().end() && known->second.names.contains(record.name);
  const TagState* state = catalogue.tag(record.name, tag);
  if (owned && state != nullptr && state->revision == record.digest) return std::vector<CatalogueEvent>();
  if (!update && has_name(catalogue, record.name)) {
    return absl::AlreadyExistsError(str_cat("model '", record.name, "' exists: use --update to move ",
                                            record.name, ":", tag, " to the new revision, or another name"));
  }
  std::vector<CatalogueEvent> events;
  if (!owned) events.emplace_back(std::move(sealed));
  const bool labelled = owned && known->second.labels.contains(record.name);
  if (!labelled && !record.label.id.empty())
    events.emplace_back(RevisionLabelled{record.name, record.digest, record.label});
  events.emplace_back(TagMoved{record.name, std::string(tag), record.digest});
  return events;
}

absl::StatusOr<std::vector<CatalogueEvent>> plan_publish(const Catalogue& catalogue, const ModelRef& ref,
                                                         std::string_view tag) {
  CENOTE_RETURN_IF_ERROR(check_tag(tag));
  CENOTE_ASSIGN_OR_RETURN(const Digest revision, catalogue.resolve(ref));
  std::vector<CatalogueEvent> events;
  const TagState* state = catalogue.tag(ref.name, tag);
  if (state == nullptr || state->revision != revision)
    events.emplace_back(TagMoved{ref.name, std::string(tag), revision});
  return events;
}

absl::StatusOr<std::vector<CatalogueEvent>> plan_rollback(const Catalogue& catalogue, std::string_view name,
                                                          std::string_view tag) {
  ModelRef ref;
  ref.name = name;
  ref.tag = tag;
  CENOTE_RETURN_IF_ERROR(catalogue.resolve(ref).status());
  const TagState& state = *catalogue.tag(name, tag);
  if (state.history.empty()) {
    return absl::FailedPreconditionError(
        str_cat(ref.text(), " has no previous target: publish the revision you want"));
  }
  return std::vector<CatalogueEvent>{TagMoved{ref.name, ref.tag, state.history.back(), true}};
}

absl::StatusOr<std::vector<CatalogueEvent>> plan_remove(const Catalogue& catalogue, const ModelRef& ref) {
  if (ref.digest_prefix.empty() && !ref.tag_written) {
    if (!has_name(catalogue, ref.name)) return no_model(catalogue, ref.name);
    return remove_name(catalogue, ref.name);
  }
  CENOTE_ASSIGN_OR_RETURN(const Digest revision, catalogue.resolve(ref));
  std::vector<std::string> tags = catalogue.tags_of(ref.name, revision);
  std::vector<CatalogueEvent> events;
  if (!ref.digest_prefix.empty()) {
    if (!tags.empty()) {
      return absl::FailedPreconditionError(
          str_cat(ref.text(), ": tag ", ref.name, ":", tags.front(),
                  " points at it: remove the tag, or publish another revision"));
    }
  } else {
    events.emplace_back(TagRemoved{ref.name, ref.tag});
    if (tags.size() > 1) return events;
  }
  events.emplace_back(RevisionRemoved{ref.name, revision});
  return events;
}

}  // namespace cenote
