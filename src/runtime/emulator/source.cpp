// What a failure can say from the kernel's own text, which is in its shared object: the line, and the names of parameters
// and shared arrays as they are declared there.
#include "internal.h"
#include <cctype>
#include <cstring>

namespace emu {

namespace {

bool isName(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// From the kernel's name in its declaration to the next kernel
std::string textOf(const Launch& launch) {
  if (launch.kernel->text == nullptr || *launch.kernel->text == nullptr) return "";
  const std::string text = *launch.kernel->text, kernel = "__global__";
  for (size_t at = text.find(kernel); at != std::string::npos;) {
    const size_t next = text.find(kernel, at + 1), body = text.find('{', at);
    for (size_t name = text.find(launch.name + "(", at); name < body; name = text.find(launch.name + "(", name + 1))
      if (!isName(text[name - 1])) return text.substr(name, next == std::string::npos ? next : next - name);
    at = next;
  }
  return "";
}

std::string lastName(const std::string& text) {
  size_t end = text.size();
  while (end > 0 && !isName(text[end - 1])) --end;
  size_t begin = end;
  while (begin > 0 && isName(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}

}  // namespace

std::string quoteLine(const Launch& launch, i32 line) {
  if (line <= 0 || launch.kernel->text == nullptr || *launch.kernel->text == nullptr) return "";
  const char* at = *launch.kernel->text;
  for (i32 n = 1; n < line; ++n) {
    at = std::strchr(at, '\n');
    if (at == nullptr) return "";
    ++at;
  }
  const std::string number = std::to_string(line);
  return "\n  " + std::string(number.size() < 5 ? 5 - number.size() : 0, ' ') + number + " | " + std::string(at, std::strcspn(at, "\n"));
}

std::string parameterName(const Launch& launch, size_t parameter) {
  const std::string text = textOf(launch);
  size_t begin = text.find('('), index = 0;
  int depth = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    depth += c == '(' || c == '<' ? 1 : c == ')' || c == '>' ? -1 : 0;
    if ((c != ',' || depth != 1) && depth != 0) continue;
    if (index++ == parameter) return lastName(text.substr(begin + 1, i - begin - 1));
    if (depth == 0) return "";
    begin = i;
  }
  return "";
}

// Of `Shared<f32, 64> tile = sharedAt<f32, 64>(256)` that array's, for byte 256 of the arena and 64 elements
std::string sharedName(const Launch& launch, u64 byte, u64 count) {
  const std::string text = textOf(launch), call = "sharedAt<";
  for (size_t at = text.find(call); at != std::string::npos; at = text.find(call, at + 1)) {
    const size_t open = text.find(">(", at), comma = text.rfind(',', open);
    if (open == std::string::npos || comma == std::string::npos || comma < at) continue;
    const std::string elements = text.substr(comma + 1, open - comma - 1), place = text.substr(open + 2, text.find(')', open) - open - 2);
    const bool counted = elements.find_first_not_of(" 0123456789") == std::string::npos;
    if (place.empty() || place.find_first_not_of("0123456789") != std::string::npos || std::stoull(place) != byte) continue;
    if (counted && std::stoull(elements) != count) continue;
    const size_t equals = text.find_last_not_of(' ', at - 1);
    return equals != std::string::npos && text[equals] == '=' ? lastName(text.substr(0, equals)) : "";
  }
  return "";
}

}  // namespace emu
