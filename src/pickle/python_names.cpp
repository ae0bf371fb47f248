#include "pickle/python_names.hpp"

#include <algorithm>
#include <array>

#include "base/utf8.hpp"

namespace flatbed::pth {

namespace {

struct ModuleRow {
  std::string_view python2, python3;
};
struct NameRow {
  PythonName python2, python3;
};

// clang-format off
constexpr std::array kModules{
    ModuleRow{"__builtin__", "builtins"},
    ModuleRow{"copy_reg", "copyreg"},
    ModuleRow{"Queue", "queue"},
    ModuleRow{"SocketServer", "socketserver"},
    ModuleRow{"ConfigParser", "configparser"},
    ModuleRow{"repr", "reprlib"},
    ModuleRow{"tkFileDialog", "tkinter.filedialog"},
    ModuleRow{"tkSimpleDialog", "tkinter.simpledialog"},
    ModuleRow{"tkColorChooser", "tkinter.colorchooser"},
    ModuleRow{"tkCommonDialog", "tkinter.commondialog"},
    ModuleRow{"Dialog", "tkinter.dialog"},
    ModuleRow{"Tkdnd", "tkinter.dnd"},
    ModuleRow{"tkFont", "tkinter.font"},
    ModuleRow{"tkMessageBox", "tkinter.messagebox"},
    ModuleRow{"ScrolledText", "tkinter.scrolledtext"},
    ModuleRow{"Tkconstants", "tkinter.constants"},
    ModuleRow{"Tix", "tkinter.tix"},
    ModuleRow{"ttk", "tkinter.ttk"},
    ModuleRow{"Tkinter", "tkinter"},
    ModuleRow{"markupbase", "_markupbase"},
    ModuleRow{"_winreg", "winreg"},
    ModuleRow{"thread", "_thread"},
    ModuleRow{"dummy_thread", "_dummy_thread"},
    ModuleRow{"dbhash", "dbm.bsd"},
    ModuleRow{"dumbdbm", "dbm.dumb"},
    ModuleRow{"dbm", "dbm.ndbm"},
    ModuleRow{"gdbm", "dbm.gnu"},
    ModuleRow{"xmlrpclib", "xmlrpc.client"},
    ModuleRow{"SimpleXMLRPCServer", "xmlrpc.server"},
    ModuleRow{"httplib", "http.client"},
    ModuleRow{"htmlentitydefs", "html.entities"},
    ModuleRow{"HTMLParser", "html.parser"},
    ModuleRow{"Cookie", "http.cookies"},
    ModuleRow{"cookielib", "http.cookiejar"},
    ModuleRow{"BaseHTTPServer", "http.server"},
    ModuleRow{"test.test_support", "test.support"},
    ModuleRow{"commands", "subprocess"},
    ModuleRow{"urlparse", "urllib.parse"},
    ModuleRow{"robotparser", "urllib.robotparser"},
    ModuleRow{"urllib2", "urllib.request"},
    ModuleRow{"anydbm", "dbm"},
    ModuleRow{"_abcoll", "collections.abc"},
    // The names from here on are only read: these modules became parts of others.
    ModuleRow{"cPickle", "pickle"},
    ModuleRow{"_elementtree", "xml.etree.ElementTree"},
    ModuleRow{"FileDialog", "tkinter.filedialog"},
    ModuleRow{"SimpleDialog", "tkinter.simpledialog"},
    ModuleRow{"DocXMLRPCServer", "xmlrpc.server"},
    ModuleRow{"SimpleHTTPServer", "http.server"},
    ModuleRow{"CGIHTTPServer", "http.server"},
    ModuleRow{"UserDict", "collections"},
    ModuleRow{"UserList", "collections"},
    ModuleRow{"UserString", "collections"},
    ModuleRow{"whichdb", "dbm"},
    ModuleRow{"StringIO", "io"},
    ModuleRow{"cStringIO", "io"},
};

// Names that moved to another module than their neighbours, or were renamed.
constexpr std::array kNames{
    NameRow{{"__builtin__", "xrange"}, {"builtins", "range"}},
    NameRow{{"__builtin__", "reduce"}, {"functools", "reduce"}},
    NameRow{{"__builtin__", "intern"}, {"sys", "intern"}},
    NameRow{{"__builtin__", "unichr"}, {"builtins", "chr"}},
    NameRow{{"__builtin__", "unicode"}, {"builtins", "str"}},
    NameRow{{"__builtin__", "long"}, {"builtins", "int"}},
    NameRow{{"itertools", "izip"}, {"builtins", "zip"}},
    NameRow{{"itertools", "imap"}, {"builtins", "map"}},
    NameRow{{"itertools", "ifilter"}, {"builtins", "filter"}},
    NameRow{{"itertools", "ifilterfalse"}, {"itertools", "filterfalse"}},
    NameRow{{"itertools", "izip_longest"}, {"itertools", "zip_longest"}},
    NameRow{{"UserDict", "IterableUserDict"}, {"collections", "UserDict"}},
    NameRow{{"UserList", "UserList"}, {"collections", "UserList"}},
    NameRow{{"UserString", "UserString"}, {"collections", "UserString"}},
    NameRow{{"whichdb", "whichdb"}, {"dbm", "whichdb"}},
    NameRow{{"_socket", "fromfd"}, {"socket", "fromfd"}},
    NameRow{{"_multiprocessing", "Connection"}, {"multiprocessing.connection", "Connection"}},
    NameRow{{"multiprocessing.process", "Process"}, {"multiprocessing.context", "Process"}},
    NameRow{{"multiprocessing.forking", "Popen"}, {"multiprocessing.popen_fork", "Popen"}},
    NameRow{{"urllib", "ContentTooShortError"}, {"urllib.error", "ContentTooShortError"}},
    NameRow{{"urllib", "getproxies"}, {"urllib.request", "getproxies"}},
    NameRow{{"urllib", "pathname2url"}, {"urllib.request", "pathname2url"}},
    NameRow{{"urllib", "quote_plus"}, {"urllib.parse", "quote_plus"}},
    NameRow{{"urllib", "quote"}, {"urllib.parse", "quote"}},
    NameRow{{"urllib", "unquote_plus"}, {"urllib.parse", "unquote_plus"}},
    NameRow{{"urllib", "unquote"}, {"urllib.parse", "unquote"}},
    NameRow{{"urllib", "url2pathname"}, {"urllib.request", "url2pathname"}},
    NameRow{{"urllib", "urlcleanup"}, {"urllib.request", "urlcleanup"}},
    NameRow{{"urllib", "urlencode"}, {"urllib.parse", "urlencode"}},
    NameRow{{"urllib", "urlopen"}, {"urllib.request", "urlopen"}},
    NameRow{{"urllib", "urlretrieve"}, {"urllib.request", "urlretrieve"}},
    NameRow{{"urllib2", "HTTPError"}, {"urllib.error", "HTTPError"}},
    NameRow{{"urllib2", "URLError"}, {"urllib.error", "URLError"}},
    NameRow{{"multiprocessing", "AuthenticationError"},
            {"multiprocessing.context", "AuthenticationError"}},
    NameRow{{"multiprocessing", "BufferTooShort"}, {"multiprocessing.context", "BufferTooShort"}},
    NameRow{{"multiprocessing", "ProcessError"}, {"multiprocessing.context", "ProcessError"}},
    NameRow{{"multiprocessing", "TimeoutError"}, {"multiprocessing.context", "TimeoutError"}},
    // The names from here on are only read.
    NameRow{{"__builtin__", "basestring"}, {"builtins", "str"}},
    NameRow{{"exceptions", "StandardError"}, {"builtins", "Exception"}},
    NameRow{{"UserDict", "UserDict"}, {"collections", "UserDict"}},
    NameRow{{"socket", "_socketobject"}, {"socket", "SocketType"}},
};
// clang-format on

}  // namespace

bool is_python_name(std::string_view name) noexcept {
  return !name.empty() && is_wtf8(name) &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

PythonName python3_name(PythonName old) noexcept {
  for (const NameRow& row : kNames) {
    if (row.python2 == old) return row.python3;
  }
  // Python 2 kept its exceptions in a module of their own.
  if (old.module == "exceptions") return {"builtins", old.name};
  for (const ModuleRow& row : kModules) {
    if (row.python2 == old.module) return {row.python3, old.name};
  }
  return old;
}

// Chooses as CPython does, so that its files and ours have the same names.
PythonName python2_name(PythonName name) noexcept {
  const auto returns = [name](PythonName old) { return python3_name(old) == name; };
  for (const NameRow& row : kNames) {
    if (row.python2 == PythonName{"__builtin__", "basestring"}) break;
    if (row.python3 == name && returns(row.python2)) return row.python2;
  }
  for (const ModuleRow& row : kModules) {
    if (row.python2 == "cPickle") break;
    const PythonName old{row.python2, name.name};
    if (row.python3 == name.module && returns(old)) return old;
  }
  return name;
}

}  // namespace flatbed::pth
