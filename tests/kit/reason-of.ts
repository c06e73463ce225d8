import { PicketError } from '../../shared/errors/errors.ts';

/** The reason of the PicketError that `run` throws; undefined when it throws nothing. Any other error is thrown on, and fails the test. */
export function reasonOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof PicketError) return error.reason;
    throw error;
  }
}
