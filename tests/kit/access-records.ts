import type { z } from 'zod';
import { accessPage } from '../../shared/protocol/operator.ts';
import type { ControlPlane } from './control-plane.ts';

/** A decision in the server's record. */
export type AccessRecordShown = z.output<typeof accessPage>['items'][number];

const PAGE = ['--limit', '1000'];

/** What the called hosts decided on requests for paths below `prefix`, as the server has it: each as often as it has it. */
export async function decisionsBelow(
  control: ControlPlane,
  target: string,
  prefix: string,
): Promise<readonly AccessRecordShown[]> {
  const all = await listRecords(control, '--target', target);
  return all.filter((each) => each.direction === 'inbound' && each.path?.startsWith(prefix) === true);
}

/** All records that the server finds by `filter`. */
export async function listRecords(
  control: ControlPlane,
  ...filter: readonly string[]
): Promise<readonly AccessRecordShown[]> {
  const found: AccessRecordShown[] = [];
  let cursor: string | null = null;
  do {
    const more: readonly string[] = cursor === null ? PAGE : [...PAGE, '--cursor', cursor];
    const page: z.output<typeof accessPage> = await control.picketJson(
      accessPage,
      'audit',
      'access',
      ...filter,
      ...more,
    );
    found.push(...page.items);
    cursor = page.next;
  } while (cursor !== null);
  return found;
}
