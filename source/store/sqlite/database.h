// store/sqlite/database.h - SQLite's handles with owners, and its errors as Status. Private to store/. Single
// owner thread.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace cenote {

class Statement;

class Database {
 public:
  // Makes the file if it is absent.
  static absl::StatusOr<Database> open(const std::string& path);
  ~Database();
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;

  // One or more statements without results.
  absl::Status run(const char* sql);
  // kDataLoss if the path does not lead to the open file any more: SQLite would go on writing to one that
  // nobody opens again.
  absl::Status check_in_place();
  absl::StatusOr<Statement> prepare(const char* sql);
  // The last error of this connection as a Status that names the file and the remedy.
  absl::Status error(int code, std::string_view doing) const;
  const std::string& path() const { return path_; }
  bool in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

 private:
  Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  sqlite3* handle_ = nullptr;
  std::string path_;
};

// The Database must outlive it.
class Statement {
 public:
  Statement(Database& database, sqlite3_stmt* handle) : database_(&database), handle_(handle) {}
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(Statement&& other) noexcept : database_(other.database_), handle_(other.handle_) {
    other.handle_ = nullptr;
  }
  Statement& operator=(Statement&&) = delete;

  void bind(int index, uint64_t value) {
    sqlite3_bind_int64(handle_, index, static_cast<sqlite3_int64>(value));
  }
  // Borrowed until the next step() that ends, or reset().
  void bind(int index, std::string_view blob) {
    sqlite3_bind_blob64(handle_, index, blob.data(), blob.size(), SQLITE_STATIC);
  }
  // True: a row is there. False: done.
  absl::StatusOr<bool> step();
  void reset() { sqlite3_reset(handle_); }
  uint64_t number(int column) const { return static_cast<uint64_t>(sqlite3_column_int64(handle_, column)); }
  std::string_view blob(int column) const {  // Until the next step().
    const void* bytes = sqlite3_column_blob(handle_, column);
    return {static_cast<const char*>(bytes), static_cast<size_t>(sqlite3_column_bytes(handle_, column))};
  }

 private:
  Database* database_;
  sqlite3_stmt* handle_;
};

// BEGIN IMMEDIATE; rolls back when destroyed uncommitted.
class Transaction {
 public:
  static absl::StatusOr<Transaction> begin(Database& database);
  ~Transaction();
  Transaction(Transaction&& other) noexcept : database_(other.database_) { other.database_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  absl::Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace cenote
