// SPDX-License-Identifier: GPL-2.0-only
/* What the vsvm programs have in common. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>

#include <drm/drm.h>
#include <linux/const.h>

#include "vsvm_util.h"

#define FIRST_RENDER_NODE	128
#define NUM_RENDER_NODES	64

#define PM_SWAP		_BITULL(62)
#define PM_PRESENT	_BITULL(63)

int vsvm_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret && errno == EINTR);

	return ret ? -errno : 0;
}

int vsvm_query(int fd, struct drm_vsvm_query *query)
{
	memset(query, 0, sizeof(*query));
	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_QUERY, query);
}

static bool is_vsvm(int fd, unsigned int device)
{
	char name[16] = "";
	struct drm_version version = {
		.name = name,
		.name_len = sizeof(name) - 1,
	};
	struct drm_vsvm_query query;

	return !vsvm_ioctl(fd, DRM_IOCTL_VERSION, &version) &&
	       !strcmp(name, "vsvm") && !vsvm_query(fd, &query) &&
	       query.device == device;
}

int vsvm_open(unsigned int device)
{
	char path[32];
	int i, fd;

	for (i = 0; i < NUM_RENDER_NODES; i++) {
		snprintf(path, sizeof(path), "/dev/dri/renderD%d",
			 FIRST_RENDER_NODE + i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_vsvm(fd, device))
			return fd;
		close(fd);
	}
	return -ENODEV;
}

int vsvm_vm_create(int fd, uint32_t *vm)
{
	struct drm_vsvm_vm_create args = {};
	int ret;

	ret = vsvm_ioctl(fd, DRM_IOCTL_VSVM_VM_CREATE, &args);
	*vm = args.vm_id;
	return ret;
}

int vsvm_vm_destroy(int fd, uint32_t vm)
{
	struct drm_vsvm_vm_destroy args = { .vm_id = vm };

	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_VM_DESTROY, &args);
}

int vsvm_residency(int fd, uint32_t vm, const void *addr, size_t size,
		   struct drm_vsvm_page *pages)
{
	struct drm_vsvm_residency args = {
		.vm_id = vm,
		.start = (uintptr_t)addr,
		.size = size,
		.pages = (uintptr_t)pages,
	};

	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_RESIDENCY, &args);
}

static uint8_t pagemap_state(uint64_t entry)
{
	if (entry & PM_PRESENT)
		return VSVM_PAGEMAP_PRESENT;
	return entry & PM_SWAP ? VSVM_PAGEMAP_SWAPPED : VSVM_PAGEMAP_NONE;
}

int vsvm_pagemap(const void *addr, size_t npages, uint8_t *state)
{
	off_t pos = (uintptr_t)addr / getpagesize() * sizeof(uint64_t);
	uint64_t entry[512];
	size_t i, j, n;
	ssize_t len;
	int fd, ret = 0;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	for (i = 0; i < npages && !ret; i += n) {
		n = npages - i < 512 ? npages - i : 512;
		len = n * sizeof(*entry);
		if (pread(fd, entry, len, pos + i * sizeof(*entry)) != len)
			ret = -EIO;
		for (j = 0; j < n && !ret; j++)
			state[i + j] = pagemap_state(entry[j]);
	}
	close(fd);
	return ret;
}

int vsvm_bind(unsigned int device, bool bind)
{
	char path[64], name[16];
	int fd, len, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/platform/drivers/vsvm/%s",
		 bind ? "bind" : "unbind");
	len = snprintf(name, sizeof(name), "vsvm.%u", device);

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, name, len) != len)
		ret = -errno;
	close(fd);
	return ret;
}

long long vsvm_fdinfo(int fd, const char *key)
{
	char path[32], line[128], unit[8];
	long long value, result = -1;
	size_t len = strlen(key);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return -1;

	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		unit[0] = '\0';
		if (sscanf(line + len + 1, "%lld %7s", &value, unit) < 1)
			continue;
		result = value;
		if (!strcmp(unit, "KiB"))
			result <<= 10;
		else if (!strcmp(unit, "MiB"))
			result <<= 20;
	}
	fclose(file);
	return result;
}

void vsvm_touch(const void *addr)
{
	char byte;

	/* Not something that the compiler can see to be useless. */
	memcpy(&byte, addr, 1);
	asm("" : : "r" (byte) : "memory");
}

void vsvm_fill(void *addr, size_t size, uint64_t seed)
{
	uint64_t *word = addr;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		word[i] = seed;
	}
}

uint64_t vsvm_checksum(const void *addr, size_t size)
{
	const uint64_t *word = addr;
	uint64_t sum = 14695981039346656037ULL;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		sum = (sum ^ word[i]) * 1099511628211ULL;
	return sum;
}

double vsvm_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}
