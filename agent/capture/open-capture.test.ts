import { afterAll, beforeAll, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { createBpfPlace, type BpfPlace } from '../../tests/kit/bpf-place.ts';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import type { BackendChoice } from './capture.ts';
import { openCapture, probeCapture, type OpenCaptureOptions } from './open-capture.ts';

let network: TestNetwork;
let place: BpfPlace;

beforeAll(async () => {
  network = await createTestNetwork(1);
  place = await createBpfPlace(network.hosts[0]!);
});
afterAll(async () => {
  await place.remove();
  await network.remove();
});

function optionsFor(backend: BackendChoice, change: Partial<OpenCaptureOptions> = {}): OpenCaptureOptions {
  return {
    backend,
    bpfFolder: place.bpfFolder,
    cgroup: place.cgroup,
    maxRecords: 128,
    transparentId: 0x504a,
    ownerUid: 0,
    ownAddresses: () => [],
    ...change,
  };
}

test('openCapture() opens what is configured, and by "auto" eBPF where the kernel takes it', () => {
  const opened = (['nftables', 'ebpf', 'auto'] as const).map((backend) => openCapture(optionsFor(backend)));
  expect(opened.map(({ capture }) => capture.backend)).toEqual(['nftables', 'ebpf', 'ebpf']);
  expect(opened.map(({ whyNot }) => whyNot)).toEqual([undefined, undefined, undefined]);
  // It was only tried.
  expect(existsSync(place.bpfFolder)).toBe(false);
});

test.each([
  ['the folder is in no BPF file system', { bpfFolder: '/tmp/picket' }, 'bpf_folder'],
  ['the cgroup is none', { cgroup: '/tmp' }, 'cgroup_missing'],
] as const)('openCapture() opens nftables by "auto" where %s, and says why', (_, change, reason) => {
  const { capture, whyNot } = openCapture(optionsFor('auto', change));
  expect([capture.backend, whyNot?.reason]).toEqual(['nftables', reason]);
});

test('probeCapture() finds nothing in the way of the programs, or what it is, whatever is configured', () => {
  for (const backend of ['nftables', 'ebpf', 'auto'] as const) {
    expect(probeCapture(optionsFor(backend)).findObstacle()).toBeUndefined();
    const obstacle = probeCapture(optionsFor(backend, { cgroup: '/tmp' })).findObstacle();
    expect(obstacle?.reason).toBe('cgroup_missing');
  }
  expect(existsSync(place.bpfFolder)).toBe(false);
});
