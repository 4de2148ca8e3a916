// tests/unit/folders.h - where the tests' files lie. In one object of its own: absolute paths in every compilation would cost each
// checkout the compiler cache of the others.
#pragma once

#include <string>

namespace cenote {

std::string test_data(const std::string& name);       // tests/data/NAME
std::string settings_folder();                        // settings/

}  // namespace cenote
