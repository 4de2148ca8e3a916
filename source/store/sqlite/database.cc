#include "store/sqlite/database.h"

#include <cerrno>
#include <utility>

#include "base/status.h"
#include "base/text.h"

namespace cenote {

absl::StatusOr<Database> Database::open(const std::string& path) {
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr)
    return absl::ResourceExhaustedError(str_cat("catalogue '", path, "': no memory for SQLite"));
  Database database(handle, path);
  if (code != SQLITE_OK) {
    const int system_error = sqlite3_system_errno(handle);
    if (system_error != 0) return errno_status(system_error, str_cat("catalogue '", path, "'"));
    return database.error(code, "open");
  }
  sqlite3_extended_result_codes(handle, 1);
  return database;
}

Database::~Database() {
  sqlite3_close_v2(handle_);
}
Database::Database(Database&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), path_(std::move(other.path_)) {}
Database& Database::operator=(Database&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(path_, other.path_);
  return *this;
}

absl::Status Database::error(int code, std::string_view doing) const {
  const std::string what = str_cat("catalogue '", path_, "': ", doing, ": ", sqlite3_errmsg(handle_));
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(str_cat(what, "; nothing was written: make room on its disk"));
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(str_cat(what,
                                         "; restore it from a backup, or move it away together with its -wal "
                                         "file and deploy the models again"));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::AlreadyExistsError(str_cat(what, "; another controller has it open: stop that one first"));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(str_cat(what, "; make the file and its directory writable"));
    case SQLITE_IOERR: {
      // ENOSPC shows as an I/O error where SQLite extends its shared files.
      const int system_error = sqlite3_system_errno(handle_);
      if (system_error == ENOSPC || system_error == EDQUOT) {
        return absl::ResourceExhaustedError(str_cat(what, "; nothing was written: make room on its disk"));
      }
      return absl::DataLossError(str_cat(what, "; the disk under it fails: move the file to another one"));
    }
    case SQLITE_CANTOPEN:
      return absl::NotFoundError(
          str_cat(what, "; make its directory, or name another in cluster.state_directory"));
    default:
      return absl::InternalError(what);
  }
}

absl::Status Database::run(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : error(code, sql);
}

absl::Status Database::check_in_place() {
  int moved = 0;
  if (sqlite3_file_control(handle_, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      str_cat("catalogue '", path_,
              "' was moved or removed while it was open; nothing was written: put it back "
              "with its -wal file, or restart the controller and deploy the models again"));
}

absl::StatusOr<Statement> Database::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(handle_, sql, -1, &statement, nullptr);
  if (code != SQLITE_OK) return error(code, sql);
  return Statement(*this, statement);
}

absl::StatusOr<bool> Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->error(code, sqlite3_sql(handle_));
}

absl::StatusOr<Transaction> Transaction::begin(Database& database) {
  CENOTE_RETURN_IF_ERROR(database.check_in_place());
  CENOTE_RETURN_IF_ERROR(database.run("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  // A failed commit may have rolled back already; what cannot be rolled back here is when the file is opened
  // next.
  if (database_ != nullptr && database_->in_transaction()) (void)database_->run("ROLLBACK");
}

absl::Status Transaction::commit() {
  CENOTE_RETURN_IF_ERROR(database_->run("COMMIT"));
  database_ = nullptr;
  return absl::OkStatus();
}

}  // namespace cenote
