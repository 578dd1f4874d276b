"""The few functions of libbpf that a model as BPF needs; the library is loaded when asked for."""

from __future__ import annotations

import functools
from typing import Any, Final

from cffi import FFI

from mlproxy.errors import ProxyError

__all__ = ("MAP_TYPE_ARRAY", "RDONLY_PROG", "ffi", "libbpf")

SONAME: Final = "libbpf.so.1"
MAP_TYPE_ARRAY: Final = 2  # BPF_MAP_TYPE_ARRAY
RDONLY_PROG: Final = 1 << 7  # BPF_F_RDONLY_PROG

# As in libbpf's headers; whatever is handled by pointer alone stays opaque.
_DECLARATIONS: Final = """
struct bpf_map_create_opts {
    size_t sz;
    uint32_t btf_fd;
    uint32_t btf_key_type_id;
    uint32_t btf_value_type_id;
    uint32_t btf_vmlinux_value_type_id;
    uint32_t inner_map_fd;
    uint32_t map_flags;
    uint64_t map_extra;
    uint32_t numa_node;
    uint32_t map_ifindex;
};
void *libbpf_set_print(void *fn);
struct bpf_object *bpf_object__open_mem(const void *data, size_t size, const void *opts);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct bpf_map *bpf_object__find_map_by_name(const struct bpf_object *obj, const char *name);
struct bpf_program *bpf_object__next_program(const struct bpf_object *obj,
                                             struct bpf_program *prog);
int bpf_program__set_log_buf(struct bpf_program *prog, char *buf, size_t size);
void *bpf_map__initial_value(const struct bpf_map *map, size_t *size);
int bpf_map__fd(const struct bpf_map *map);
struct bpf_link *bpf_map__attach_struct_ops(const struct bpf_map *map);
int bpf_link__destroy(struct bpf_link *link);
int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size,
                   uint32_t max_entries, const struct bpf_map_create_opts *opts);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_freeze(int fd);
"""

ffi: Final = FFI()
ffi.cdef(_DECLARATIONS)


@functools.cache
def libbpf() -> Any:
    """Return the library.

    Raises:
        ProxyError: `bpf.no_libbpf`.
    """
    try:
        library = ffi.dlopen(SONAME)
    except OSError as e:
        raise ProxyError(
            f"{SONAME} is not there: {e}", code="bpf.no_libbpf", hint="apt install libbpf1"
        ) from e
    # It would write to stderr; what it says comes in errors, with the verifier's log.
    library.libbpf_set_print(ffi.NULL)
    return library
