// catalog/catalogue_plans.h - what people ask of names and tags, as the events that do it. Pure: nothing
// changes until they are applied, all or none.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "catalog/catalogue.h"

namespace cenote {

// A deploy makes `record` visible under record.name and `tag`.
// kAlreadyExists: the name exists and `update` is false. Deploying what the tag points at already is no event
// at all.
absl::StatusOr<std::vector<CatalogueEvent>> plan_deploy(const Catalogue& catalogue,
                                                        const RevisionRecord& record, std::string_view tag,
                                                        bool update);

// `publish NAME@DIGEST [--tag T]`. kNotFound: no such revision of the name. No event if it is so already.
absl::StatusOr<std::vector<CatalogueEvent>> plan_publish(const Catalogue& catalogue, const ModelRef& ref,
                                                         std::string_view tag);

// `rollback NAME[:T]`. kNotFound: no such tag. kFailedPrecondition: it has no previous target.
absl::StatusOr<std::vector<CatalogueEvent>> plan_rollback(const Catalogue& catalogue, std::string_view name,
                                                          std::string_view tag);

// `remove NAME`: all its tags and revisions. `remove NAME:TAG`: the tag, and what it pointed at unless
// another tag of the name does. `remove NAME@DIGEST`: that revision; kFailedPrecondition names the tags that
// point at it. kNotFound: nothing fits.
absl::StatusOr<std::vector<CatalogueEvent>> plan_remove(const Catalogue& catalogue, const ModelRef& ref);

}  // namespace cenote
