#include "key_rules.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <string>
#include <string_view>

namespace flatbed::python {

namespace {

using Raised = std::shared_ptr<std::optional<nb::python_error>>;

std::string text(const nb::handle& str) {
  Py_ssize_t nbytes = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(str.ptr(), &nbytes);
  if (utf8 == nullptr) throw nb::python_error();  // UnicodeEncodeError, for a lone surrogate
  return {utf8, static_cast<std::size_t>(nbytes)};
}

// The callable is kept by the map and freed with it, whatever thread that is on.
KeyMap::Callback to_callback(const nb::handle& callable, Raised raised) {
  const std::shared_ptr<nb::object> kept(
      std::make_unique<nb::object>(nb::borrow(callable)).release(), [](nb::object* last) {
        const std::unique_ptr<nb::object> owned(last);
        if (!nb::is_alive()) {
          owned->release();
          return;
        }
        const GilHeld held;
        owned->reset();
      });
  return [kept, raised](std::string_view name) -> Result<std::string> {
    const GilHeld held;
    try {
      const nb::object renamed = (*kept)(name);
      if (nb::isinstance<nb::str>(renamed)) return text(renamed);
      nb::raise_type_error("a callable that renames must return a str, not %s",
                           nb::type_name(renamed.type()).c_str());
    } catch (nb::python_error& error) {
      raised->emplace(std::move(error));
    } catch (const nb::builtin_exception& error) {
      PyErr_SetString(PyExc_TypeError, error.what());
      raised->emplace();
    }
    return Error{ErrorCode::cancelled, "interrupted by an exception of Python"};
  };
}

// OLD is a glob, as in a rule that is written as text.
std::string rule_text(const nb::handle& old_name, const nb::handle& new_name) {
  if (!nb::isinstance<nb::str>(old_name) || !nb::isinstance<nb::str>(new_name)) {
    nb::raise_type_error("rename: a dict of rules holds str only");
  }
  return text(old_name) + "=" + text(new_name);
}

}  // namespace

KeyRules::KeyRules(const nb::handle& rules) {
  if (!rules.is_none()) add(rules);
}

void KeyRules::strip_prefix(const std::string& prefix) {
  value_or_raise(map_.strip_prefix(prefix));
}

void KeyRules::add_prefix(const std::string& prefix) { value_or_raise(map_.add_prefix(prefix)); }

void KeyRules::add(const nb::handle& rules) {
  if (nb::isinstance<nb::str>(rules)) {
    value_or_raise(map_.append(value_or_raise(KeyMap::parse(text(rules), "rename"))));
  } else if (nb::isinstance<nb::dict>(rules)) {
    for (const auto [old_name, new_name] : nb::borrow<nb::dict>(rules)) {
      value_or_raise(
          map_.append(value_or_raise(KeyMap::parse_rule(rule_text(old_name, new_name)))));
    }
  } else if (nb::isinstance<nb::list>(rules) || nb::isinstance<nb::tuple>(rules)) {
    for (const nb::handle rule : rules) {
      if (nb::isinstance<nb::list>(rule) || nb::isinstance<nb::tuple>(rule)) {
        nb::raise_type_error("rename: a list of rules holds no lists");
      }
      add(rule);
    }
  } else if (PyCallable_Check(rules.ptr()) != 0) {
    value_or_raise(map_.add_callback(to_callback(rules, raised_)));
  } else {
    nb::raise_type_error("rename: expected a dict, a str, a callable or a list of these, not %s",
                         nb::type_name(rules.type()).c_str());
  }
}

}  // namespace flatbed::python
