import { agentRestart, agentUpgrade } from './disturbances.ts';
import type { OrdealOptions } from './ordeal.ts';

/** Rotation every ten seconds, another policy every second, agents restarted and upgraded at random; a quarter of the time without restarts, in which memory must be flat. */
export function soak({
  seconds,
  seed,
  progress,
}: Pick<OrdealOptions, 'seconds' | 'seed' | 'progress'>): OrdealOptions {
  return {
    seconds,
    seed,
    ...(progress === undefined ? {} : { progress }),
    disturbances: ({ store, desk }) =>
      [store, desk].flatMap((agent) => [
        agentRestart(agent, 'SIGTERM'),
        agentRestart(agent, 'SIGKILL'),
        agentUpgrade(agent),
      ]),
    peaceMs: 10_000,
    lastsMs: 100,
    calmMs: (seconds * 1000) / 4,
    ttl: '20s',
    policyMs: 1000,
  };
}
