/* Objects that shall never end, so that their counts of references need not be right.
 *
 * Most pages that a worker makes its own differ from the parent's in counts alone: it holds a name or a function that
 * the parent made. No such object ever ends in a worker, which runs the parent's code for life. So each that exists
 * before the first fork gets 2^40 references that nobody holds. Then a page whose counts are set back says the same as
 * before: a count may now be less than the references there are, by a few thousand each time at most, and stays far
 * from nought; a destructor is never called early, and none that a worker waits for is called late.
 *
 * CPython 3.11 counts in 64 bits. 3.12 and 3.13 do when they count down; they count up in the lower 32 alone, which
 * when those have gone below nought stays as it is: such an object is immortal to them, as these all should be. Later
 * versions keep other things in the upper half, and here only pages that are wholly the same are given back.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "sharing.h"

#include <sys/mman.h>

enum { FIRST_WITH_OTHER_COUNTS = 0x030E0000 };
static const size_t ROOM = (size_t)1 << 22; /* objects; memory is taken for those that there are */

/* The references of a code object: the collector does not know them, nor Python's own traverse. */
static const char *const IN_CODE[] = {"co_consts",   "co_names",     "co_filename",      "co_name",
                                      "co_qualname", "co_linetable", "co_exceptiontable"};
static const char *const NAMES_IN_CODE[] = {"co_varnames", "co_cellvars", "co_freevars"}; /* tuples made anew */

typedef int64_t __attribute__((may_alias)) references; /* how an object begins */

static int meet(PyObject *object, void *context)
{
    struct lasting *lasting = context;
    references *count = (references *)object;
    if (*count < STILL_LASTING && lasting->count < lasting->room) {
        *count += LASTING;
        lasting->object[lasting->count++] = object;
    }
    return 0;
}

static void meet_code(PyObject *code, struct lasting *lasting)
{
    for (size_t i = 0; i < sizeof IN_CODE / sizeof *IN_CODE; i++) {
        PyObject *value = PyObject_GetAttrString(code, IN_CODE[i]);
        if (value != NULL)
            meet(value, lasting);
        Py_XDECREF(value);
    }
    for (size_t i = 0; i < sizeof NAMES_IN_CODE / sizeof *NAMES_IN_CODE; i++) {
        PyObject *names = PyObject_GetAttrString(code, NAMES_IN_CODE[i]);
        for (Py_ssize_t j = 0; names != NULL && j < PyTuple_Size(names); j++)
            meet(PyTuple_GetItem(names, j), lasting);
        Py_XDECREF(names);
    }
    PyErr_Clear();
}

static bool has_traverse(PyObject *object)
{
    if (PyType_Check(object) && !(PyType_GetFlags((PyTypeObject *)object) & Py_TPFLAGS_HEAPTYPE))
        return false; /* of static types the collector knows what they refer to */
    return PyType_GetFlags(Py_TYPE(object)) & Py_TPFLAGS_HAVE_GC;
}

static void meet_held(PyObject *object, PyObject *code_type, struct lasting *lasting)
{
    PyTypeObject *type = Py_TYPE(object);
    meet((PyObject *)type, lasting);
    if ((PyObject *)type == code_type)
        meet_code(object, lasting);
    if (has_traverse(object))
        ((traverseproc)PyType_GetSlot(type, Py_tp_traverse))(object, meet, lasting);
}

static void meet_all(PyObject *roots, PyObject *code_type, struct lasting *lasting)
{
    for (Py_ssize_t i = 0; i < PyList_Size(roots); i++)
        meet(PyList_GetItem(roots, i), lasting);
    for (size_t i = 0; i < lasting->count; i++)
        meet_held(lasting->object[i], code_type, lasting);
}

static void stop_all_warmup(PyObject *code_type, const struct lasting *lasting)
{
    bool may = may_stop_warmup();
    for (size_t i = 0; may && i < lasting->count; i++)
        if ((PyObject *)Py_TYPE((PyObject *)lasting->object[i]) == code_type)
            stop_warmup(lasting->object[i]);
}

static PyObject *from_module(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    PyObject *value = imported == NULL ? NULL : PyObject_GetAttrString(imported, name);
    Py_XDECREF(imported);
    return value;
}

void lasting_find(struct lasting *lasting)
{
    *lasting = (struct lasting){.room = ROOM};
    if (Py_Version >= FIRST_WITH_OTHER_COUNTS || sizeof(void *) != sizeof(word))
        return;
    /* shared, so that it is none of the regions */
    void *memory = mmap(NULL, ROOM * sizeof(void *), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return;
    lasting->object = memory;
    PyObject *get_objects = from_module("gc", "get_objects"), *code_type = from_module("types", "CodeType");
    PyObject *roots = get_objects == NULL ? NULL : PyObject_CallNoArgs(get_objects);
    if (roots != NULL && code_type != NULL) {
        meet_all(roots, code_type, lasting);
        stop_all_warmup(code_type, lasting);
    }
    Py_XDECREF(roots);
    Py_XDECREF(code_type);
    Py_XDECREF(get_objects);
    PyErr_Clear();
}

void lasting_forget(struct lasting *lasting)
{
    if (lasting->object != NULL)
        munmap(lasting->object, lasting->room * sizeof(void *));
}
