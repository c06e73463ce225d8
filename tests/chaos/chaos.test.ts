import { setDefaultTimeout, test } from 'bun:test';
import { agentRestart, loss, partition, serverRestart } from './disturbances.ts';
import { expectWhole } from './expect-whole.ts';
import { undergo } from './ordeal.ts';

setDefaultTimeout(300_000);

test('hosts and server are cut off from each other, packets are lost, agents and server are killed: nothing is lost without a cause, nothing passes undecided', async () => {
  const report = await undergo({
    seconds: 75,
    seed: 11,
    disturbances: ({ mesh: { control }, store, desk }) => [
      partition(store.host, desk.host, true),
      partition(store.host, control.host, false),
      partition(desk.host, control.host, false),
      loss(store.host),
      loss(desk.host),
      serverRestart(control),
      agentRestart(store, 'SIGKILL'),
      agentRestart(desk, 'SIGKILL'),
    ],
    peaceMs: 5000,
    lastsMs: 1500,
    calmMs: 10_000,
    ttl: '2m',
    policyMs: 4000,
  });
  expectWhole(report);
});
