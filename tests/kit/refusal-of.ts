import { PicketError } from '../../shared/errors/errors.ts';

/** The PicketError with which `work` fails. Success, or any other error, fails the test. */
export async function refusalOf(work: Promise<unknown>): Promise<PicketError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof PicketError) return error;
    throw error;
  }
  throw new Error('It was expected to be refused and was not');
}
