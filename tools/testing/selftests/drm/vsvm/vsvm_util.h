/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VSVM_UTIL_H_
#define _VSVM_UTIL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <drm/vsvm_drm.h>

/* What /proc/self/pagemap, which knows nothing of vsvm, says of a page. */
enum vsvm_pagemap {
	VSVM_PAGEMAP_NONE,
	VSVM_PAGEMAP_PRESENT,
	VSVM_PAGEMAP_SWAPPED,	/* also: in device-private memory */
};

/* All of these return 0 or a file descriptor, or -errno. */
int vsvm_open(unsigned int device);
int vsvm_query(int fd, struct drm_vsvm_query *query);
int vsvm_vm_create(int fd, uint32_t *vm);
int vsvm_vm_destroy(int fd, uint32_t vm);
int vsvm_ioctl(int fd, unsigned long request, void *arg);
int vsvm_residency(int fd, uint32_t vm, const void *addr, size_t size,
		   struct drm_vsvm_page *pages);
int vsvm_pagemap(const void *addr, size_t npages, uint8_t *state);
int vsvm_bind(unsigned int device, bool bind);

/* The value in bytes of a line of the file's fdinfo, or -1. */
long long vsvm_fdinfo(int fd, const char *key);

/* Read one byte. */
void vsvm_touch(const void *addr);

void vsvm_fill(void *addr, size_t size, uint64_t seed);
uint64_t vsvm_checksum(const void *addr, size_t size);
double vsvm_now_ms(void);

#endif
