import { expect, test } from 'bun:test';
import { findCgroupMount } from './cgroup.ts';

test('findCgroupMount() finds the whole tree of version 2, and nothing else', () => {
  const v1 = '30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu';
  const part = '31 23 0:27 /system.slice /mnt/part rw - cgroup2 cgroup2 rw';
  const whole = '32 23 0:27 / /sys/fs/cgroup/with\\040space rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw';
  expect(findCgroupMount([v1, part, whole, ''].join('\n'))).toBe('/sys/fs/cgroup/with space');
  expect(findCgroupMount([v1, part].join('\n'))).toBeUndefined();
  for (const text of ['', 'x', ' - cgroup2 ', '1 2 3 / - cgroup2 x'])
    expect(findCgroupMount(text)).toBeUndefined();
});
