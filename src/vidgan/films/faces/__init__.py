"""Aligned face clips out of films, after the thesis' TrailerFaces (Kratzwald et al. 2017, ch. 7).

Films are cut into shots, faces are found and followed, aligned by their landmarks, and kept where
one person can be seen for at least 32 frames. `build.build_faces` runs it over a folder of films.
Needs the extra `faces`.
"""
