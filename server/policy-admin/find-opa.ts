import { PicketError } from '../../shared/errors/errors.ts';

/** The absolute path of the configured `opa`. Throws `failed_precondition`, reason `opa_missing`: without it no policy could be checked. */
export function findOpa(configured: string, path: string | undefined): string {
  const found = Bun.which(configured, { PATH: path ?? '' });
  if (found !== null) return found;
  throw new PicketError(
    'failed_precondition',
    'opa_missing',
    `Cannot find the executable "${configured}", which checks and compiles policies: install opa, or name it as policy.opa`,
  );
}
