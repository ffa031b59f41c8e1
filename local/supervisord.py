"""supervisord, with the paths in its configuration left as they are: relative to the project.

It would make them absolute; but the path of a unix socket may have 100 characters or so, and a clone may
lie deep.
"""

from supervisor import options, supervisord

options.normalize_path = str

if __name__ == "__main__":
    supervisord.main()
