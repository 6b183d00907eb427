"""The words that the corpus of carat-nano is made of."""

NAMES = """Ada Ali Amy Ana Ben Bob Cara Carl Clara Dan Dora Elena Emil Emma Erik Eva Felix Finn Frida George Hana Hugo Ida Igor Ines Ivan Jack Jana Jim Joan
Jonas Julia Karl Kate Kim Lara Lena Leo Lina Liam Lucy Luis Maja Maria Mark Max Mia Mila Nina Nora Olga Omar Oscar Otto Paul Peter Rita Rosa Sam Sara
Sofia Stella Tara Theo Tim Tom Uma Vera Victor Yara Zoe""".split()
CITIES = """Athens Basel Berlin Bern Bonn Boston Cairo Chicago Dakar Delhi Dublin Geneva Hamburg Helsinki Istanbul Kyoto Lagos Lima Lisbon London Lyon Madrid
Malmo Miami Milan Montreal Moscow Munich Nairobi Naples Oslo Osaka Paris Porto Prague Quito Riga Rome Seattle Seoul Sofia Split Sydney Tokyo Toronto Tunis
Turin Vienna Warsaw Zurich""".split()
COUNTRIES = """Brazil Canada Chile China Cuba Egypt France Germany Ghana Greece India Iran Italy Japan Kenya Mexico Norway Peru Poland Portugal Spain Sweden
Turkey Vietnam""".split()
ANIMALS = """ant bear bee bird camel cat cow crab deer dog dolphin duck eagle elephant fish fox frog goat goose hen horse lion lizard monkey mouse otter owl
panda parrot pig rabbit rat seal shark sheep snail snake spider swan tiger turtle whale wolf zebra""".split()
FOODS = """apple banana bean bread butter cake carrot cheese cherry coffee corn egg fig garlic grape honey jam juice lemon lime mango melon milk mushroom nut
olive onion orange pasta peach pear pepper pizza plum potato rice salad salt soup sugar tea tomato water yogurt""".split()
OBJECTS = """bag ball basket bell bike boat book bottle bowl box brush bucket button camera candle card chair clock coat coin comb cup desk door drum fan
flag fork glass glove guitar hammer hat jar kettle key kite knife ladder lamp letter map mirror mug nail needle oven paper pen pencil phone piano pillow
pipe plate pot radio ring rope rug saw scarf shirt shoe sock sofa spoon stamp stone table tent ticket towel toy train truck umbrella vase wallet watch
wheel whistle window""".split()
COLOURS = "red green blue yellow orange purple black white pink brown grey".split()
JOBS = """actor baker barber builder chef clerk dancer dentist doctor driver farmer fisher gardener judge lawyer miner nurse painter pilot plumber poet
sailor singer soldier tailor teacher waiter writer""".split()
PLACES = "attic barn bathroom bedroom cellar garage garden hall kitchen library office park shed shop street studio".split()
ROOMS = "attic bathroom bedroom cellar garage hall kitchen office studio".split()
ADJECTIVES = """big brave bright busy calm clean clever cold cool dark deep dry early easy empty fair fast fine fresh full funny gentle glad good happy hard
heavy high hot kind large late light little long loud low new nice old open poor proud quick quiet rich round safe sharp short shy slow small smart soft
strong sweet tall thin tiny warm weak wet wide wild wise young""".split()
VERBS = "bring buy call carry clean close cook count cut draw drop eat fill find fix give hide hold keep lift make move open paint pick pull push read send show sing turn wash write".split()
MATERIALS = "wood glass stone paper metal wool silk gold silver iron".split()
LANGUAGES = "Arabic Czech Danish Dutch English Finnish French German Greek Hindi Italian Japanese Korean Polish Portuguese Russian Spanish Swedish Turkish".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CURRENCIES = "euro dollar pound yen franc krone rupee peso".split()
TOPICS = """atoms bridges castles chess clouds dinosaurs dreams engines football gravity history islands jazz lightning magnets mathematics medicine money
moon mountains music oceans opera physics planets poetry politics rain robots rockets sleep snow stars time trees volcanoes weather""".split()
SKIES = "clear cloudy foggy rainy snowy sunny windy stormy".split()
NUMBER_WORDS = "zero one two three four five six seven eight nine".split()

PLAIN = sorted(set(ANIMALS + FOODS + OBJECTS + COLOURS + JOBS + PLACES + ADJECTIVES + VERBS + MATERIALS))
