import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkerOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** Whether all processes of the data path take connections, decide by the policy of the agent, and have not ended by themselves. */
export function checkWorkers({ workers, policy }: Pick<StatusAnswer, 'workers' | 'policy'>): Check {
  const missing = workers.filter(({ isReady }) => !isReady).length;
  const restarts = workers.reduce((sum, worker) => sum + worker.restarts, 0);
  const behind = workers.filter(
    ({ isReady, policySequence }) => isReady && policySequence !== (policy?.sequence ?? 0),
  ).length;
  const advice = 'the agent’s log tells how they ended (worker_ended), and what they said before';
  return check(
    'workers',
    workers.length === 0
      ? 'none: the agent carries the traffic itself'
      : `${workers.length} take connections`,
    when(missing > 0, 'fail', `${missing} of ${workers.length} do not run: what is for them waits`, advice),
    when(
      behind > 0,
      'warn',
      `${behind} decide by another policy than the agent’s just now`,
      'look again in a moment',
    ),
    when(restarts > 0, 'warn', `they ended ${restarts} times and were started again`, advice),
  );
}
