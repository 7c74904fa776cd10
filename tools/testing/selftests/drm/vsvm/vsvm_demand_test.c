// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of device memory whose struct pages are made when they are used: the RAM
 * that they take, and what races with making and removing them.  They need
 * vsvm.on_demand=1, and at least two parts of memory.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		240
#define MIB		0x100000UL
#define SMALL		(4 * MIB)
#define RACE_MS		5000.0
#define WAIT_MS		20000.0

/* Free pages that CPUs keep at hand, which count as used: up to 1/8 of all */
static long percpu_pages(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	char line[128];
	long n, sum = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %ld", &n) == 1)
			sum += n;
	if (file)
		fclose(file);
	return sum;
}

/* RAM in use, without what vmalloc() gave to vsvm as its memory, in KiB */
static long used_kib(void)
{
	static const char file[] = "/proc/meminfo";

	return vsvm_file_figure(file, "MemTotal") -
	       vsvm_file_figure(file, "MemFree") -
	       vsvm_file_figure(file, "VmallocUsed") -
	       percpu_pages() * getpagesize() / 1024;
}

/* Pages of RAM that struct pages take, of all memory that was hot-added */
static long memmap_pages(void)
{
	return vsvm_file_figure("/proc/vmstat", "nr_memmap_pages");
}

static long long figure(const char *name)
{
	return vsvm_region_figure(0, name);
}

static int shrink_caches(void)
{
	return vsvm_write_file("/proc/sys/vm/drop_caches", "2");
}

/* Have all parts without users removed; parts go a moment after they are told. */
static int shrink_to(long long present)
{
	double end = vsvm_now_ms() + WAIT_MS;
	int ret;

	do {
		ret = shrink_caches();
		if (ret || figure("parts-present") == present)
			return ret;
		usleep(10000);
	} while (vsvm_now_ms() < end);
	return -ETIME;
}

FIXTURE(demand)
{
	struct vsvm_gpu gpu;
	long long parts;
	size_t part;		/* size in bytes */
	size_t page;
};

FIXTURE_SETUP(demand)
{
	self->gpu.fd = -1;
	self->page = getpagesize();
	self->parts = figure("parts");
	if (self->parts < 2)
		SKIP(return, "no vsvm.on_demand=1 with memory of two parts");

	/* Start over, without the parts that others have used. */
	ASSERT_EQ(0, vsvm_bind(0, false));
	ASSERT_EQ(0, vsvm_bind(0, true));
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->part = self->gpu.query.vram_size / self->parts;
	if (self->part & (self->part - 1))
		SKIP(return, "the last part is shorter than the others");
}

FIXTURE_TEARDOWN(demand)
{
	vsvm_gpu_close(&self->gpu);
}

static int to_device(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_prefetch(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

static char *filled(size_t size, uint64_t seed)
{
	char *mem = vsvm_alloc(size, 2 * MIB);

	if (mem)
		vsvm_fill(mem, size, seed);
	return mem;
}

/* A device takes next to no RAM before its memory is used. */
TEST_F_TIMEOUT(demand, probe, TIMEOUT)
{
	long before, after, memmap;

	EXPECT_EQ(0, figure("parts-present"));
	EXPECT_EQ(0, figure("memmap"));
	vsvm_gpu_close(&self->gpu);

	ASSERT_EQ(0, vsvm_bind(0, false));
	shrink_caches();
	memmap = memmap_pages();
	before = used_kib();
	ASSERT_EQ(0, vsvm_bind(0, true));
	after = used_kib();
	EXPECT_EQ(memmap, memmap_pages());
	TH_LOG("%lu MiB of device memory take %ld KiB of RAM at probe",
	       (unsigned long)(self->gpu.query.vram_size / MIB),
	       after - before);
	EXPECT_LT(after - before, 16L << 10);
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
}

/* The first use makes one part, a shrinker removes it after the last use. */
TEST_F_TIMEOUT(demand, life_of_a_part, TIMEOUT)
{
	long before, in_use, after, pages;
	long long memmap;
	char *mem;
	int i;

	for (i = 0; i < 3; i++) {
		shrink_caches();
		before = used_kib();
		pages = memmap_pages();
		mem = filled(SMALL, 1);
		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, to_device(&self->gpu, mem, SMALL));
		EXPECT_EQ((long)(SMALL / self->page),
			  vsvm_count(&self->gpu, mem, SMALL,
				     DRM_VSVM_PLACE_DEVICE));
		EXPECT_EQ(1, figure("parts-present"));
		EXPECT_EQ(0, figure("parts-idle"));
		memmap = figure("memmap");
		EXPECT_EQ((long long)(self->part / self->page * 64), memmap);
		EXPECT_EQ(pages + memmap / (long)self->page, memmap_pages());
		/* It must not take what is in use. */
		shrink_caches();
		usleep(100000);
		in_use = used_kib();
		EXPECT_EQ(1, figure("parts-present"));

		EXPECT_EQ(-1, vsvm_verify(mem, SMALL, 1));
		munmap(mem, SMALL);
		ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd,
					    self->gpu.stats.vram_used));
		EXPECT_EQ(1, figure("parts-idle"));
		ASSERT_EQ(0, shrink_to(0));
		EXPECT_EQ(0, figure("memmap"));
		/* It counts as gone before it is. */
		while (memmap_pages() > pages)
			usleep(1000);
		after = used_kib();
		TH_LOG("RAM in KiB: %ld before, %ld in use, %ld after",
		       before, in_use, after);
		TH_LOG("struct pages in KiB: %ld, %lld, %ld", 0L, memmap >> 10,
		       (memmap_pages() - pages) * (long)self->page >> 10);
	}
}

/* A page fault of the GPU makes a part, too. */
TEST_F_TIMEOUT(demand, first_use_by_fault, TIMEOUT)
{
	char *mem = filled(SMALL, 1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, SMALL, 77));
	EXPECT_EQ(1, figure("parts-present"));
	EXPECT_EQ((long)(SMALL / self->page),
		  vsvm_count(&self->gpu, mem, SMALL, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify_value(mem, SMALL, 77));
	munmap(mem, SMALL);
}

/* More memory than a part has is migrated part by part, and evicted. */
TEST_F_TIMEOUT(demand, several_parts, TIMEOUT)
{
	size_t size = self->part + SMALL;
	char *mem = filled(size, 1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, to_device(&self->gpu, mem, size));
	EXPECT_EQ((long)(size / self->page),
		  vsvm_count(&self->gpu, mem, size, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(2, figure("parts-present"));
	EXPECT_EQ((long long)(2 * self->part / self->page * 64), figure("memmap"));

	/* Copies within the device and to RAM across the end of a part */
	ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, mem + self->part - MIB, mem, 2 * MIB));
	ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, mem, mem + self->part - MIB, 2 * MIB));
	EXPECT_EQ(0, memcmp(mem, mem + self->part - MIB, 2 * MIB));

	/* What is left in the first part keeps only that. */
	munmap(mem + SMALL, size - SMALL);
	ASSERT_EQ(0, to_device(&self->gpu, mem, SMALL));
	ASSERT_EQ(0, shrink_to(1));
	EXPECT_EQ(0, figure("parts-idle"));
	EXPECT_EQ((long)(SMALL / self->page),
		  vsvm_count(&self->gpu, mem, SMALL, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify(mem, SMALL, 1));

	munmap(mem, SMALL);
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	ASSERT_EQ(0, shrink_to(0));
}

/* All data is back after the device was unplugged with several parts in use. */
TEST_F_TIMEOUT(demand, unplug, TIMEOUT)
{
	size_t size = self->part + SMALL;
	char *mem = filled(size, 3);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, to_device(&self->gpu, mem, size));
	EXPECT_EQ(2, figure("parts-present"));
	vsvm_gpu_close(&self->gpu);
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 3));
	ASSERT_EQ(0, vsvm_bind(0, true));
	EXPECT_EQ(0, figure("parts-present"));
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	munmap(mem, size);
}

/*
 * Races.  Processes migrate their memory to the device and back, while something
 * else happens.
 */
struct racer {
	atomic_bool stop;
	atomic_long rounds;
	atomic_int wrong;
	pthread_t thread;
	unsigned int device;
	unsigned int seed;
};

/* What a device that comes and goes may answer. */
static bool is_gone(int ret)
{
	return ret == -ENODEV || ret == -ENOENT || ret == -ENXIO;
}

static int race_round(struct racer *r, char *mem)
{
	struct vsvm_gpu gpu;
	int ret;

	ret = vsvm_gpu_open(&gpu, r->device);
	if (ret)
		return is_gone(ret) ? 0 : ret;

	ret = to_device(&gpu, mem, SMALL);
	/* Nothing but unplug, or neighbours that use the last RAM. */
	if (!is_gone(ret) && ret != -ENOSPC && ret != -EBUSY && ret)
		goto out;
	ret = vsvm_verify(mem, SMALL, r->seed) >= 0 ? -EILSEQ : 0;
	atomic_fetch_add(&r->rounds, 1);
out:
	vsvm_gpu_close(&gpu);
	return ret;
}

static void *racer_main(void *arg)
{
	struct racer *r = arg;
	char *mem = filled(SMALL, r->seed);
	int ret;

	if (!mem)
		atomic_store(&r->wrong, ENOMEM);
	while (mem && !atomic_load(&r->stop)) {
		ret = race_round(r, mem);
		if (ret)
			atomic_store(&r->wrong, ret);
	}
	if (mem)
		munmap(mem, SMALL);
	return NULL;
}

#define RACERS	2

struct race {
	struct racer racer[RACERS];
	double end;
	int ret;
};

static int race_start(struct race *race, unsigned int device)
{
	int i, ret = 0;

	memset(race, 0, sizeof(*race));
	for (i = 0; i < RACERS && !ret; i++) {
		race->racer[i].seed = i + 1;
		race->racer[i].device = device;
		ret = pthread_create(&race->racer[i].thread, NULL,
				     racer_main, &race->racer[i]);
	}
	race->end = vsvm_now_ms() + RACE_MS * (vsvm_debug_kernel() ? 4 : 1);
	return ret;
}

static long race_stop(struct race *race)
{
	long rounds = 0;
	int i;

	for (i = 0; i < RACERS; i++)
		atomic_store(&race->racer[i].stop, true);
	for (i = 0; i < RACERS; i++) {
		pthread_join(race->racer[i].thread, NULL);
		rounds += atomic_load(&race->racer[i].rounds);
		if (atomic_load(&race->racer[i].wrong))
			race->ret = atomic_load(&race->racer[i].wrong);
	}
	return rounds;
}

/* The shrinker removes parts between the uses, and tries to during them. */
TEST_F_TIMEOUT(demand, race_shrinker, TIMEOUT)
{
	struct race r;
	long rounds;
	int i = 0;

	ASSERT_EQ(0, race_start(&r, 0));
	for (; vsvm_now_ms() < r.end; i++) {
		shrink_caches();
		usleep(1000);
	}
	rounds = race_stop(&r);
	EXPECT_EQ(0, r.ret);
	EXPECT_LT(2, rounds);
	TH_LOG("%ld migrations, %d times the shrinker", rounds, i);
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	ASSERT_EQ(0, shrink_to(0));
}

/* The device is unplugged at any time, also in the middle of a first use. */
TEST_F_TIMEOUT(demand, race_unplug, TIMEOUT)
{
	struct race r;
	long rounds;
	int i = 0;

	vsvm_gpu_close(&self->gpu);
	ASSERT_EQ(0, race_start(&r, 0));
	for (; vsvm_now_ms() < r.end; i++) {
		usleep(i % 8 * 4000);
		ASSERT_EQ(0, vsvm_bind(0, false));
		ASSERT_EQ(0, vsvm_bind(0, true));
	}
	rounds = race_stop(&r);
	EXPECT_EQ(0, r.ret);
	TH_LOG("%ld migrations, %d times unplugged", rounds, i);
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
}

/* Another device comes and goes, which adds and removes memory, too. */
TEST_F_TIMEOUT(demand, race_hot_add, TIMEOUT)
{
	char *mem = filled(SMALL, 9);
	struct vsvm_gpu other;
	struct race r;
	long rounds;
	int i = 0;

	if (vsvm_region_figure(1, "parts") < 0)
		SKIP(return, "one device only");
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, race_start(&r, 0));
	for (; vsvm_now_ms() < r.end; i++) {
		ASSERT_EQ(0, vsvm_gpu_open(&other, 1));
		EXPECT_EQ(0, to_device(&other, mem, SMALL));
		vsvm_gpu_close(&other);
		shrink_caches();
		ASSERT_EQ(0, vsvm_bind(1, false));
		ASSERT_EQ(0, vsvm_bind(1, true));
		EXPECT_EQ(-1, vsvm_verify(mem, SMALL, 9));
	}
	rounds = race_stop(&r);
	EXPECT_EQ(0, r.ret);
	EXPECT_LT(2, rounds);
	TH_LOG("%ld migrations, %d times another device", rounds, i);
	munmap(mem, SMALL);
}

/* CPUs come and go: making a part takes the lock of that. */
TEST_F_TIMEOUT(demand, race_cpu_hotplug, TIMEOUT)
{
	static const char cpu[] = "/sys/devices/system/cpu/cpu1/online";
	struct race r;
	long rounds;
	int i = 0;

	if (access(cpu, W_OK))
		SKIP(return, "no CPU to take offline");
	ASSERT_EQ(0, race_start(&r, 0));
	for (; vsvm_now_ms() < r.end; i++) {
		EXPECT_EQ(0, vsvm_write_file(cpu, "0"));
		shrink_caches();
		EXPECT_EQ(0, vsvm_write_file(cpu, "1"));
		shrink_caches();
	}
	rounds = race_stop(&r);
	EXPECT_EQ(0, r.ret);
	EXPECT_LT(2, rounds);
	TH_LOG("%ld migrations, %d times a CPU offline", rounds, i);
}

TEST_HARNESS_MAIN
