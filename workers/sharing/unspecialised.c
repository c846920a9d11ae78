/* Code that has not run often enough before the first fork is never specialised to what it meets.
 *
 * CPython 3.11 counts the first runs of each code object in that object, then rewrites its instructions, and notes
 * beside them, in dictionaries and in types, what it expects to see. In a worker each of those notes makes a page its
 * own, for code that mostly runs once. A count that stands at nought is one that is over, and nothing more happens:
 * the interpreter itself writes that when it has rewritten the instructions, and tests for nothing else.
 * What is worth specialising is rehearsed, and has been by now.
 *
 * The field is CPython's own, and of 3.11 alone. So nothing is done unless a code object that never ran looks as it
 * does there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "sharing.h"

#include <string.h>

/* struct PyCodeObject of 3.11: int co_flags, short co_warmup, ..., int co_argcount, int co_posonlyargcount */
enum { FLAGS = 48, WARMUP = 52, ARGUMENTS = 56, POSITIONAL = 60, NEVER_RAN = -8 };

static bool is_int(PyObject *code, const char *name, size_t offset)
{
    int held;
    PyObject *told = PyObject_GetAttrString(code, name);
    memcpy(&held, (char *)code + offset, sizeof held);
    bool same = told != NULL && PyLong_AsLong(told) == held;
    Py_XDECREF(told);
    return same;
}

static short warmup_of(PyObject *code)
{
    short warmup;
    memcpy(&warmup, (char *)code + WARMUP, sizeof warmup);
    return warmup;
}

/* A lambda's code, compiled as part of another and never run. */
static bool looks_as_expected(PyObject *code)
{
    return is_int(code, "co_flags", FLAGS) && is_int(code, "co_argcount", ARGUMENTS) &&
           is_int(code, "co_posonlyargcount", POSITIONAL) && warmup_of(code) == NEVER_RAN;
}

bool may_stop_warmup(void)
{
    if (Py_Version >> 16 != 0x030B)
        return false;
    PyObject *outer = Py_CompileString("lambda a, b, c, /, d: a", "probe", Py_eval_input);
    PyObject *parts = outer == NULL ? NULL : PyObject_GetAttrString(outer, "co_consts");
    PyObject *code = parts == NULL ? NULL : PyTuple_GetItem(parts, 0);
    bool may = code != NULL && looks_as_expected(code);
    Py_XDECREF(parts);
    Py_XDECREF(outer);
    PyErr_Clear();
    return may;
}

void stop_warmup(void *code)
{
    const short over = 0;
    if (warmup_of(code) >= NEVER_RAN && warmup_of(code) < 0)
        memcpy((char *)code + WARMUP, &over, sizeof over);
}
