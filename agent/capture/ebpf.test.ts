import { afterAll, beforeAll } from 'bun:test';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import { describeCapture } from './contract.ts';
import { createEbpfHost, type EbpfHost } from './fixtures/ebpf-host.ts';

let network: TestNetwork;
let host: EbpfHost;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = await createEbpfHost(network.hosts[0]!);
});
afterAll(async () => {
  await host.remove();
  await network.remove();
});

describeCapture('EbpfCapture', () => {
  const { capture } = host.open();
  return Promise.resolve({ capture, remove: () => capture.remove() });
});
