# What stubgen cannot know: the types of values.
flatbed._flatbed.ERROR_CODES:
    ERROR_CODES: tuple[tuple[int, str, str], ...]
