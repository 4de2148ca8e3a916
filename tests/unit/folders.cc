#include "folders.h"

namespace cenote {

std::string test_data(const std::string& name) { return std::string(CENOTE_SOURCE_FOLDER "/tests/data/") + name; }
std::string settings_folder() { return CENOTE_SOURCE_FOLDER "/settings"; }

}  // namespace cenote
