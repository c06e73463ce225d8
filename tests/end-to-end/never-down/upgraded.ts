import { statusAnswer, type StatusAnswer } from '../../../agent/admin/admin-answers.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { waitUntil } from '../../kit/wait.ts';

/** What `picket agent status` says. */
export async function statusOf(host: MeshHost): Promise<StatusAnswer> {
  return statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json')));
}

/** Waits until the agent that was replaced has ended. */
export async function awaitEnd(host: MeshHost): Promise<void> {
  // Asking costs a process each time, which takes the processors from what is waited for.
  const hasEnded = async (): Promise<boolean> =>
    !host.isPredecessorAlive && (await statusOf(host)).predecessor === undefined;
  await waitUntil('the old agent has ended', hasEnded, 60_000);
}

/** Waits until the agent that was replaced says that it carries something; what it says. */
export async function awaitDraining(host: MeshHost): Promise<NonNullable<StatusAnswer['predecessor']>> {
  return await waitUntil('it drains', async () => {
    const { predecessor } = await statusOf(host);
    return (predecessor?.connections ?? 0) > 0 ? predecessor : undefined;
  });
}
