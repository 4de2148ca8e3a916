// The catalogue's events in a SQLite file: format(version), event(sequence, bytes). application_id tells the
// file apart.
#include "store/event_store.h"

#include <vector>

#include "base/status.h"
#include "base/text.h"
#include "store/event_store_impl.h"
#include "store/sqlite/database.h"

namespace cenote {
namespace {

constexpr uint64_t kApplicationId = 0x43454e45;  // "CENE"
constexpr uint64_t kFormatVersion = 1;

absl::StatusOr<uint64_t> single_number(Database& database, const char* sql) {
  CENOTE_ASSIGN_OR_RETURN(Statement statement, database.prepare(sql));
  CENOTE_ASSIGN_OR_RETURN(const bool row, statement.step());
  return row ? statement.number(0) : 0;
}

class SqliteStore : public EventStore {
 public:
  static absl::StatusOr<std::unique_ptr<EventStore>> open(const std::string& path) {
    CENOTE_ASSIGN_OR_RETURN(Database database, Database::open(path));
    auto store = std::unique_ptr<SqliteStore>(new SqliteStore(std::move(database)));
    CENOTE_RETURN_IF_ERROR(store->prepare_file());
    return store;
  }

  absl::StatusOr<uint64_t> append(std::span<const CatalogueEvent> events) override {
    if (events.empty() || events.size() > kEventsPerAppendMax) {
      return absl::InvalidArgumentError(
          str_cat("append of ", events.size(), " events, 1 to ", kEventsPerAppendMax));
    }
    CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> encoded, encode_batch(events));
    CENOTE_ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(database_));
    CENOTE_RETURN_IF_ERROR(insert(encoded));
    CENOTE_RETURN_IF_ERROR(transaction.commit());
    last_ += encoded.size();
    return last_;
  }

  absl::StatusOr<std::vector<StoredEvent>> read(uint64_t from, size_t limit) override {
    if (from < first_) return compacted_away(from, first_);
    CENOTE_ASSIGN_OR_RETURN(
        Statement statement,
        database_.prepare("SELECT sequence, bytes FROM event WHERE sequence >= ? ORDER BY sequence LIMIT ?"));
    statement.bind(1, from);
    statement.bind(2, static_cast<uint64_t>(std::min<size_t>(limit, INT64_MAX)));
    std::vector<StoredEvent> result;
    while (true) {
      CENOTE_ASSIGN_OR_RETURN(const bool row, statement.step());
      if (!row) break;
      const uint64_t sequence = statement.number(0);
      if (sequence != from + result.size()) {
        return absl::DataLossError(str_cat("catalogue '", database_.path(), "': event ", from + result.size(),
                                           " is missing: restore it from a backup"));
      }
      absl::StatusOr<CatalogueEvent> event = decode_event(statement.blob(1));
      if (absl::IsFailedPrecondition(event.status()))
        return annotate(event.status(), str_cat("catalogue '", database_.path(), "'"));
      if (!event.ok()) {
        return absl::DataLossError(str_cat("catalogue '", database_.path(), "': event ", sequence,
                                           " is damaged (", to_std(event.status().message()),
                                           "): restore it from a backup"));
      }
      result.push_back({sequence, *std::move(event)});
    }
    return result;
  }

  absl::Status compact(std::span<const CatalogueEvent> snapshot) override {
    CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> encoded, encode_batch(snapshot));
    CENOTE_ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(database_));
    // Sequences go on from here even if the snapshot is empty.
    CENOTE_ASSIGN_OR_RETURN(Statement mark, database_.prepare("UPDATE format SET first = ?"));
    mark.bind(1, last_ + 1);
    CENOTE_RETURN_IF_ERROR(mark.step().status());
    CENOTE_RETURN_IF_ERROR(database_.run("DELETE FROM event"));
    CENOTE_RETURN_IF_ERROR(insert(encoded));
    CENOTE_RETURN_IF_ERROR(transaction.commit());
    first_ = last_ + 1;
    last_ += encoded.size();
    return absl::OkStatus();
  }

  uint64_t first() const override { return first_; }
  uint64_t last() const override { return last_; }

 private:
  explicit SqliteStore(Database database) : database_(std::move(database)) {}

  absl::Status insert(const std::vector<std::string>& encoded) {
    CENOTE_ASSIGN_OR_RETURN(Statement statement,
                            database_.prepare("INSERT INTO event(sequence, bytes) VALUES(?, ?)"));
    for (size_t i = 0; i < encoded.size(); ++i) {
      statement.bind(1, last_ + 1 + i);
      statement.bind(2, encoded[i]);
      CENOTE_RETURN_IF_ERROR(statement.step().status());
      statement.reset();
    }
    return absl::OkStatus();
  }

  absl::Status prepare_file() {
    // Exclusive: one controller owns the file, and WAL then needs no shared memory beside it.
    CENOTE_RETURN_IF_ERROR(database_.run("PRAGMA locking_mode=EXCLUSIVE"));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t tables,
                            single_number(database_, "SELECT count(*) FROM sqlite_master"));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t application, single_number(database_, "PRAGMA application_id"));
    if (tables > 0 && application != kApplicationId) {
      return absl::DataLossError(str_cat(
          "catalogue '", database_.path(),
          "' is a SQLite file of another program: name another directory in cluster.state_directory"));
    }
    CENOTE_RETURN_IF_ERROR(database_.run("PRAGMA journal_mode=WAL"));
    CENOTE_RETURN_IF_ERROR(database_.run("PRAGMA synchronous=FULL"));
    if (tables == 0) CENOTE_RETURN_IF_ERROR(make_tables());
    CENOTE_RETURN_IF_ERROR(check_version());
    CENOTE_RETURN_IF_ERROR(check_health());
    CENOTE_ASSIGN_OR_RETURN(first_, single_number(database_, "SELECT first FROM format"));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t count, single_number(database_, "SELECT count(*) FROM event"));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t highest,
                            single_number(database_, "SELECT max(sequence) FROM event"));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t lowest,
                            single_number(database_, "SELECT min(sequence) FROM event"));
    last_ = first_ + count - 1;
    if (first_ == 0 || (count > 0 && (lowest != first_ || highest != last_))) {
      return absl::DataLossError(str_cat("catalogue '", database_.path(), "': ", count, " events numbered ",
                                         lowest, " to ", highest, ", expected from ", first_,
                                         " without holes: restore it from a backup"));
    }
    return absl::OkStatus();
  }

  absl::Status make_tables() {
    CENOTE_ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(database_));
    CENOTE_RETURN_IF_ERROR(
        database_.run("CREATE TABLE format(version INTEGER NOT NULL, first INTEGER NOT NULL);"
                      "CREATE TABLE event(sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"));
    CENOTE_RETURN_IF_ERROR(database_.run(
        str_cat("INSERT INTO format VALUES(", kFormatVersion, ", 1); PRAGMA application_id=", kApplicationId)
            .c_str()));
    return transaction.commit();
  }

  absl::Status check_version() {
    CENOTE_ASSIGN_OR_RETURN(const uint64_t version, single_number(database_, "SELECT version FROM format"));
    if (version == kFormatVersion) return absl::OkStatus();
    if (version > kFormatVersion) {
      return absl::FailedPreconditionError(str_cat("catalogue '", database_.path(), "' has format ", version,
                                                   ", this Cenote reads ", kFormatVersion,
                                                   ": use the Cenote that wrote it"));
    }
    return absl::DataLossError(
        str_cat("catalogue '", database_.path(), "' has no format version: restore it from a backup"));
  }

  absl::Status check_health() {
    CENOTE_ASSIGN_OR_RETURN(Statement statement, database_.prepare("PRAGMA quick_check(1)"));
    CENOTE_ASSIGN_OR_RETURN(const bool row, statement.step());
    const std::string verdict(row ? statement.blob(0) : "no answer");
    if (verdict == "ok") return absl::OkStatus();
    return absl::DataLossError(str_cat("catalogue '", database_.path(), "' is damaged (", verdict,
                                       "): restore it from a backup, or move it away together with its -wal "
                                       "file and deploy the models again"));
  }

  Database database_;
  uint64_t first_ = 1;
  uint64_t last_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EventStore>> open_sqlite_store(const std::string& path) {
  return SqliteStore::open(path);
}

}  // namespace cenote
