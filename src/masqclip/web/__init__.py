"""The page without a server: a folder that any static host serves, and that runs in the browser.

packages.py   what is taken from npm, pinned and verified
page.py       the folder, written
"""
